"""A text of the user, in a real browser, on the real model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from playwright.sync_api import expect

from attn.formatting import shown
from attn.heads import HeadId
from tests.e2e.conftest import Open, heading
from tests.e2e.looking import (
    HEAD,
    SENTENCE,
    expect_head,
    tokens_of_plot,
)


def test_prompt_shows_the_users_text_and_all_heads(visit: Open, session: Any) -> None:
    page = visit("prompt", layer=18, head=6)
    box = page.get_by_role("textbox", name="Your text")
    box.fill(SENTENCE)
    page.get_by_role("button", name="Show attention").click()
    expect(page).to_have_url(re.compile("text=Nora"))
    expect(page.get_by_role("button", name="L18H8")).to_be_visible()
    page.wait_for_function(
        "wanted => document.querySelector('.js-plotly-plot')?.data?.[0].y.length === wanted",
        arg=len(session.encode(SENTENCE)),
    )
    names = [name.split(" ", 1)[1] for name in tokens_of_plot(page)]
    assert names[1:] == [shown(text) for text in session.encode(SENTENCE).texts[1:]]
    small = page.locator(".all button")
    expect(small).to_have_count(9)
    painted = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 9, 9).data).size"
    assert small.nth(6).locator("canvas").evaluate(painted) > 2
    expect(small.nth(6)).to_have_attribute("aria-pressed", "true")
    small.nth(3).click()
    expect_head(page, HeadId(18, 3))
    expect(small.nth(3)).to_have_attribute("aria-pressed", "true")
    expect(heading(page)).to_have_text("L18H3 on your text")
    expect(box).to_have_value(SENTENCE)


def test_tokens_are_held_and_their_pair_is_asked(visit: Open, session: Any) -> None:
    page = visit("prompt", layer=18, head=6, text=SENTENCE, rest=1)
    texts = session.encode(SENTENCE).texts
    view = page.locator(".view")
    tokens = view.locator(".text span")
    expect(tokens).to_have_count(len(texts))
    assert [shown(text) for text in tokens.all_text_contents()] == [shown(t) for t in texts]
    pattern = session.pattern(session.encode(SENTENCE).ids, HEAD).numpy()
    away = np.tril(pattern, -1)[:, 1:]  # the strongest look that neither rests nor stays
    again, best = (int(i) for i in np.unravel_index(away.argmax(), away.shape))
    best += 1
    tokens.nth(again).hover()
    expect(view.locator(".told .looks")).to_contain_text(f"{best} {shown(texts[best])}")
    expect(view.locator(".told .looks")).to_contain_text(f"{pattern[again, best]:.3f}"[:4])
    tokens.nth(again).click()
    expect(page).to_have_url(re.compile(rf"held={again}(&|$)"))
    expect(tokens.nth(again)).to_have_attribute("aria-pressed", "true")
    tokens.nth(best).click()
    expect(page).to_have_url(re.compile(rf"pairs={again}-{best}(&|$)"))
    expect(page.get_by_role("heading", name="Which heads join them")).to_be_visible()
    tokens.nth(again).focus()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"held=-1(&|$)"))
    slider = view.get_by_role("slider", name="Head of this layer")
    slider.press("ArrowRight")
    expect_head(page, HeadId(18, 7))
