// The tour's card. The browser keeps the step under "attn-tour"; "done" is for good.

const KEY = "attn-tour"

// A browser may forbid storage: the tour is then as long as the page is open.
let kept = null
const read = () => { try { return localStorage.getItem(KEY) ?? kept } catch { return kept } }
const write = value => { kept = value; try { localStorage.setItem(KEY, value) } catch { /* kept */ } }

export default function (component) {
  const { data, parentElement } = component
  const card = parentElement.querySelector(".tour")
  const { steps } = data
  const part = name => card.querySelector(name)

  const draw = () => {
    const now = read()
    card.hidden = now === "done"
    if (card.hidden) return
    const step = Math.min(Math.max(Number(now) || 0, 0), steps.length - 1)
    part("b").textContent = steps[step].title
    const { page, name, text } = steps[step]
    const away = page && page !== data.page
    part("p").textContent = away ? `Open ${name} in the sidebar. ${text}` : text
    part("span").textContent = `${step + 1} of ${steps.length}`
    part(".back").disabled = step === 0
    part(".next").textContent = step === steps.length - 1 ? "Done" : "Next"
    part(".back").onclick = () => { write(String(step - 1)); draw() }
    part(".next").onclick = () => {
      write(step === steps.length - 1 ? "done" : String(step + 1))
      draw()
    }
    part(".end").onclick = () => { write("done"); draw() }
  }

  if (data.begun > (card.begun ?? 0)) write("0")
  card.begun = data.begun
  // A first visit may be by a link: it begins with what that page has to tell.
  const first = steps.findIndex(step => step.page === data.page)
  if (read() === null && first > 0) write(String(first))
  // Whoever opens the page of the next step has taken it.
  const now = read()
  if (now !== "done" && card.page !== undefined && card.page !== data.page) {
    const next = steps.findIndex((step, i) => i > Number(now ?? 0) && step.page === data.page)
    if (next >= 0) write(String(next))
  }
  card.page = data.page
  draw()
}
