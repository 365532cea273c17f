"""What the Describe page is made of: the prompt before it is sent, the work, and what is kept.

Nothing is sent without a click. The work runs in the background, and every session can see it.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from attn.analyse.summary import summary as sentences
from attn.describe.describe import Description, Draft, Options, describe, draft, own
from attn.describe.report import Report as Score
from attn.describe.score import Result, score
from attn.describe.servers import Server
from attn.describe.store import Descriptions
from attn.describe.trial import Cost, Plan, by_rules, cost, questions, trial
from attn.errors import DescribeError, NoServer
from attn.heads import HeadId
from attn.index.index import Index
from attn.ui import downloads
from attn.ui.describe.language_model import entered_server
from attn.ui.describe.scores import METHODS, show_report, show_results
from attn.ui.jobs import Job, Report, language_model_runner
from attn.ui.notices import fail, plain, warn
from attn.ui.sidebar import View

__all__ = ["METHODS"]

_KEEP = 64


def summary(view: View) -> None:
    """The head in two sentences, and a button that downloads its report."""
    st.markdown(
        plain(_summary(view.index.path, view.index.manifest.identity, view.head, view.index))
    )
    st.caption(
        "This is counted over the whole corpus, without a language model. What a language model "
        "says below is a guess: its score tells whether to believe it."
    )
    downloads.report(view)


@st.cache_data(max_entries=256, show_spinner=False)
def _summary(path: Path, identity: str, head: HeadId, _index: Index) -> str:
    return sentences(_index, head)


def prepare(view: View, brief: bool) -> Draft:
    """The prompt that the switches ask for. It is shown in full before anything is sent."""
    state = st.session_state
    options = Options(
        samples=state["samples"],
        seed=state["draw"],
        numbers=state["told"],
        custom=(state.get("_custom") or "").strip(),
        budget=int(state.get("_prompt_tokens") or Options.budget),
        longest=int(state.get("_answer_tokens") or Options.longest),
        brief=brief,
    )
    return _draft(view.index.path, view.index.manifest.identity, view.head, options, view.index)


@st.cache_data(max_entries=_KEEP, show_spinner=False)
def _draft(path: Path, identity: str, head: HeadId, options: Options, _index: Index) -> Draft:
    return draft(_index, head, options)


def preview(drafted: Draft) -> None:
    """The prompt as it will be sent, with its length; the icon in its corner copies it."""
    prompt, asked = drafted.prompt, drafted.options.samples
    left = f" of {asked} asked for" if prompt.examples < asked else ""
    label = f"The prompt: {prompt.examples} examples{left}, about {prompt.tokens:,} tokens"
    with st.expander(label, icon=":material/visibility:"):
        st.caption(
            "Sent exactly so, in two parts. All examples are from training documents; the test "
            "uses other documents."
        )
        st.markdown("**System**")
        st.code(prompt.system, language=None, wrap_lines=True)
        st.markdown("**User**")
        st.code(prompt.user, language=None, wrap_lines=True, height=480)


def describe_button(view: View, server: Server | None, drafted: Draft) -> None:
    """A button that sends the prompt. The answer appears as it arrives, and can be stopped."""
    name = _name("describe", view)
    job = language_model_runner().get(name)
    if job is not None and not job.finished:
        _watch(name)
        return
    if job is not None and job.error:
        _tell(job)
    whom = f"Ask {server.model}" if server else "Ask a language model"
    st.button(
        plain(whom), key="describe_it", type="primary", icon=":material/send:",
        disabled=server is None, on_click=_describe, args=(view.index, server, drafted, name),
        help="Sends the prompt above.",
    )  # fmt: skip


def _describe(index: Index, drawn: Server, drafted: Draft, name: str) -> None:
    try:
        server = entered_server(drawn)
    except NoServer:  # the fields already show the reason
        return

    def work(report: Report) -> str:
        from attn.describe.client import Client

        report(f"Waiting for {server.model} at {server.host}.", 0.0)
        made = describe(index, drafted, Client(server), report.say, report.stop)
        Descriptions(index).add(made)
        return made.id

    language_model_runner().submit(name, work)


def plan() -> Plan:
    """How descriptions are tested, by the page's switches."""
    return Plan(questions=int(st.session_state.get("_questions") or Plan.questions))


def trial_button(view: View, server: Server | None, text: str, found: Description | None) -> None:
    """A button that tests a kept description, or the user's own ``text``, with its cost."""
    name, asked = _name("test", view), plan()
    job = language_model_runner().get(name)
    if job is not None and not job.finished:
        return
    told = _told(view, text)
    if told is None:
        return
    label = "Test it on held-out text" if found else "Test my description"
    if found and job is not None and job.stopped:
        label = "Go on with the test"
    elif found and server and _tested(view.index, found, server, asked):
        st.caption("Ask more questions, or another language model, to test it again.")
        return
    st.button(
        label,
        key=f"test {found.id if found else 'own'}",
        icon=":material/rule:",
        disabled=server is None or not text,
        on_click=_test,
        args=(view, server, text, found, name, asked),
        help=f"Asks the language model {told.calls} times, about {told.usage.total:,} tokens.",
    )


def _tested(index: Index, found: Description, server: Server, asked: Plan) -> bool:
    """Whether the same test was made before; it would give the same answer."""
    reports = Descriptions(index).reports(found)
    return any((one.judge, one.plan) == (server.model, asked.name) for one in reports)


@st.cache_data(max_entries=_KEEP, show_spinner=False)
def _cost(path: Path, identity: str, head: HeadId, text: str, asked: Plan, _index: Index) -> Cost:
    return cost(_index, head, text, asked)


def _told(view: View, text: str) -> Cost | None:
    """What a test will cost, or None if the head has nothing to ask about."""
    index = view.index
    try:
        return _cost(index.path, index.manifest.identity, view.head, text, plan(), index)
    except DescribeError:
        return None


def cost_note(view: View) -> None:
    """Say what a test asks and what it costs."""
    told = _told(view, "x " * 80)
    if told is None:
        warn(
            "The index keeps too few pairs of this head in held-out documents to test a "
            "description: scan more documents."
        )
        return
    st.caption(
        f"A test takes about {told.calls} calls and {told.usage.total:,} tokens: the questions are "
        "put to the model twice, once with this description and once with another head's."
    )


def _test(
    view: View, drawn: Server, text: str, found: Description | None, name: str, asked: Plan
) -> None:
    index = view.index
    try:
        server = entered_server(drawn)
    except NoServer:  # the fields already show the reason
        return

    def work(report: Report) -> str:
        from attn.describe.client import Client

        kept = Descriptions(index)
        tested = found or own(index, view.head, text)
        kept.add(tested)
        return trial(
            index, tested, Client(server), kept, asked, progress=report, stop=report.stop
        ).id

    language_model_runner().submit(name, work)


def running_test(view: View) -> None:
    """Show the running test, or why the last one ended early."""
    name = _name("test", view)
    job = language_model_runner().get(name)
    if job is not None and not job.finished:
        _watch(name)
    elif job is not None and job.error:
        _tell(job)


def _tell(job: Job) -> None:
    (warn if job.stopped else fail)(job.error or "")


@st.fragment(run_every=0.4)
def _watch(name: str) -> None:
    job = language_model_runner().get(name)
    if job is None or job.finished:
        st.rerun()
    if job.text:
        st.caption("The answer so far; it is kept once it is whole.")
        st.text(job.text)
    else:
        st.progress(job.fraction, text=plain(job.message))
    st.button("Stop", key=f"stop {name}", icon=":material/stop:", on_click=job.stop.set)


def rules_table(view: View) -> None:
    """How rules that need no language model do on the head's test questions."""
    with st.expander("What simple rules explain", icon=":material/straighten:"):
        try:
            results = _rules(
                view.index.path, view.index.manifest.identity, view.head, plan(), view.index
            )
        except DescribeError as error:
            warn(str(error))
            return
        st.caption(
            "The same questions that a description is tested on. A description is called good only "
            "when it is above all of these beyond the interval of the difference."
        )
        show_results(results)


@st.cache_data(max_entries=_KEEP, show_spinner=False)
def _rules(path: Path, identity: str, head: HeadId, asked: Plan, _index: Index) -> list[Result]:
    return [score(one) for one in by_rules(_index, head, questions(_index, head, asked))]


def history(view: View, server: Server | None) -> None:
    """Every description of the head, the newest first and open."""
    kept = Descriptions(view.index)
    found = kept.of(view.head)
    if not found:
        st.caption("No description of this head is kept yet.")
    for number, description in enumerate(found):
        reports = kept.reports(description)
        with st.expander(_label(description, reports), expanded=number == 0):
            st.text(description.text)
            if description.cut:
                st.caption("The answer ran on: it is cut at its last whole sentence.")
            if reports:
                show_report(reports[0])
            else:
                st.caption("Not tested: there is no reason to believe it yet.")
            trial_button(view, server, description.text, description)
            if not description.by_person:
                _sent(description)


def _label(description: Description, reports: list[Score]) -> str:
    score = f"{reports[0].result.pair.value:.2f}" if reports else "not tested"
    good = ", good" if reports and reports[0].verdict.good else ""
    when = description.created[:16].replace("T", " ")
    return f"{plain(description.author)} · {when} · {score}{good}"


def _sent(description: Description) -> None:
    cost = f"{description.prompt_tokens:,} + {description.answer_tokens:,} tokens"
    documents = len({place[0] for place in description.evidence})
    st.caption(
        f"Written from {len(description.evidence)} examples of {documents} documents, {cost}, "
        f"{description.seconds:.1f} s, by {plain(description.author)} at "
        f"{plain(description.server or 'no server')}."
    )
    with st.popover("The prompt that was sent"):
        st.code(f"{description.system}\n\n{description.user}", language=None, wrap_lines=True)


def exchange(view: View) -> None:
    """Export and import of every description of the index, as JSON lines."""
    kept = Descriptions(view.index)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button(
            "Export all as JSON lines", key="export", icon=":material/download:",
            data=lambda: "\n".join(kept.export()), mime="application/jsonl",
            file_name=f"{view.index.name}.descriptions.jsonl",
        )  # fmt: skip
        file = st.file_uploader("Import", type="jsonl", key="_import")
        if file is not None:
            st.button("Import it", key="import_it", on_click=_take, args=(kept, file.getvalue()))
    said = st.session_state.pop("_imported", None)
    if said is not None:
        (st.success if said[0] else fail)(said[1])


def _take(kept: Descriptions, data: bytes) -> None:
    try:
        added = kept.take(iter(data.decode("utf-8").splitlines()))
        st.session_state["_imported"] = (True, f"{added} descriptions are new.")
    except UnicodeDecodeError:
        st.session_state["_imported"] = (False, "The file is not UTF-8: export it again.")
    except DescribeError as error:
        st.session_state["_imported"] = (False, str(error))


def _name(what: str, view: View) -> str:
    return f"{what} {view.index.name} {view.head}"
