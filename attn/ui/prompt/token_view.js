// The token view: a text whose every token says where it looks, and what looks at it.
//
// Python sends the patterns of a layer once; pointing, the keys and the slider of heads need no
// server. What a link must say (held token, pairs, scale, marks, head) goes back as one "change".
// Texts are written with textContent alone.

const MODES = ["attention", "multiple", "write"]
const BEST = 5
const LEAST = 0.001 // of what looks at a token, less attention is not told

// float16 → number, for all 65,536 of them
const HALVES = (() => {
  const table = new Float32Array(65536)
  for (let bits = 0; bits < 65536; bits++) {
    const power = (bits >> 10) & 31
    const part = bits & 1023
    const size = power === 0 ? part * 2 ** -24
      : power === 31 ? NaN : (1 + part / 1024) * 2 ** (power - 15)
    table[bits] = bits >> 15 ? -size : size
  }
  return table
})()

const bytes = text => Uint8Array.from(atob(text), char => char.charCodeAt(0))

class Numbers {
  constructor(data) {
    this.data = data
    this.n = data.plain.length
    this.halves = new Uint16Array(bytes(data.patterns).buffer)
    this.norms = new Float32Array(bytes(data.norms).buffer)
    this.size = data.causal ? this.n * (this.n + 1) / 2 : this.n * this.n
  }

  attention(head, dst, src) {
    const { causal, start } = this.data
    if (causal && src > dst) return 0
    const place = causal ? dst * (dst + 1) / 2 + src : dst * this.n + src
    return HALVES[this.halves[(head - start) * this.size + place]]
  }

  value(mode, head, dst, src) {
    const a = this.attention(head, dst, src)
    if (mode === "multiple") return a * this.data.visible[dst]
    if (mode === "write") return a * this.norms[(head - this.data.start) * this.n + src]
    return a
  }
}

// Three digits: what float16 holds.
const told = (mode, value) =>
  `${Number(value.toPrecision(3))}${mode === "multiple" ? "×" : ""}`

function make(name, text, className) {
  const element = document.createElement(name)
  if (text !== undefined) element.textContent = text
  if (className) element.className = className
  return element
}

class View {
  constructor(root) {
    this.root = root
    this.current = 0
    this.best = 0
    this.over = null
    this.spans = []
    this.text = root.querySelector(".text")
    this.told = root.querySelector(".told")
    this.hint = root.querySelector(".hint")
    this.slider = root.querySelector(".heads input")
    this.text.addEventListener("pointerover", event => this.point(event.target))
    this.text.addEventListener("pointerleave", () => { this.over = null; this.later() })
    this.text.addEventListener("focusin", event => this.focus(event.target))
    this.text.addEventListener("click", event => this.choose(this.place(event.target)))
    this.text.addEventListener("keydown", event => this.key(event))
    this.slider.addEventListener("input", () => { this.head = +this.slider.value; this.later() })
    this.slider.addEventListener("change", () => this.send({ head: +this.slider.value }))
    for (const radio of root.querySelectorAll("input[type=radio]"))
      radio.addEventListener("change", () => {
        this.mode = radio.value
        this.later()
        this.send({ shade: this.mode })
      })
    this.marks = root.querySelector("input[type=checkbox]")
    this.marks.addEventListener("change", () => {
      this.write(this.marks.checked)
      this.send({ marks: this.marks.checked })
    })
  }

  update(data, send) {
    this.send = change => send("change", change)
    const fresh = !this.data || data.id !== this.data.id
    this.data = data
    if (fresh) this.numbers = new Numbers(data)
    if (fresh || this.head !== data.head) this.best = this.strongest(data.head)
    this.head = data.head
    this.mode = data.shade
    this.held = data.held
    this.pairs = new Set(data.pairs.map(([dst, src]) => `${dst}-${src}`))
    this.slider.max = data.names.length - 1
    this.slider.value = data.head
    this.root.querySelector(".heads").hidden = data.sent < 2
    for (const radio of this.root.querySelectorAll("input[type=radio]"))
      radio.checked = radio.value === this.mode
    this.marks.checked = data.marks
    if (fresh || this.written !== data.marks) this.write(data.marks)
    this.current = Math.min(Math.max(this.held, this.current, 0), this.spans.length - 1)
    this.spans.forEach((span, i) => { span.tabIndex = i === this.current ? 0 : -1 })
    this.paint()
  }

  write(marks) {
    this.written = marks
    this.text.dir = this.data.dir
    const { plain, visible_texts: visible, kinds, notes } = this.data
    if (this.spans.length !== plain.length) {
      this.spans = plain.map((_, i) => {
        const span = make("span")
        span.dataset.i = i
        span.setAttribute("role", "button")
        span.tabIndex = i === this.current ? 0 : -1
        return span
      })
      this.text.replaceChildren(...this.spans)
    }
    this.spans.forEach((span, i) => {
      span.textContent = marks ? visible[i] + (plain[i].endsWith("\n") ? "\n" : "") : plain[i]
      span.setAttribute("aria-label", `${i} ${visible[i]}${notes[i] ? `, ${notes[i]}` : ""}`)
      if (notes[i]) span.title = notes[i]
      else span.removeAttribute("title")
      span.classList.toggle("first", kinds[i] === "special")
      span.classList.toggle("unknown", kinds[i] === "unknown")
      span.classList.toggle("part", plain[i] === "")
    })
  }

  // The token with the strongest look elsewhere: what there is to see before anybody points.
  strongest(head) {
    const { numbers } = this
    let best = 0
    let most = 0
    for (let dst = 1; dst < numbers.n; dst++)
      for (let src = this.data.bos ? 1 : 0; src < (this.data.causal ? dst : numbers.n); src++) {
        const value = src === dst ? 0 : numbers.attention(head, dst, src)
        if (value > most) { most = value; best = dst }
      }
    return best
  }

  // The token that is pointed at or in focus, null for none.
  pointed() {
    const focused = this.text.contains(this.root.getRootNode().activeElement)
    return this.over ?? (focused ? this.current : null)
  }

  place(target) {
    const span = target.closest?.("span[data-i]")
    return span ? +span.dataset.i : null
  }

  point(target) {
    const place = this.place(target)
    if (place === null || place === this.over) return
    this.over = place
    this.later()
  }

  focus(target) {
    const place = this.place(target)
    if (place === null) return
    this.move(place, false)
    this.over = place
    this.later()
  }

  move(place, focus = true) {
    const now = Math.min(Math.max(place, 0), this.spans.length - 1)
    this.spans[this.current].tabIndex = -1
    this.current = now
    this.spans[now].tabIndex = 0
    if (focus) this.spans[now].focus()
  }

  // The token of the line above or below that is nearest.
  line(step) {
    const boxes = this.spans.map(span => span.getClientRects()[0])
    const here = boxes[this.current]
    let best = null
    let least = Infinity
    boxes.forEach((box, i) => {
      if (!box || (box.top - here.top) * step <= here.height / 2) return
      const far = Math.abs(box.top - here.top) * 1000 + Math.abs(box.left - here.left)
      if (far < least) { least = far; best = i }
    })
    return best ?? this.current
  }

  key(event) {
    const steps = {
      ArrowRight: () => this.move(this.current + 1),
      ArrowLeft: () => this.move(this.current - 1),
      ArrowDown: () => this.move(this.line(1)),
      ArrowUp: () => this.move(this.line(-1)),
      Home: () => this.move(0),
      End: () => this.move(this.spans.length - 1),
      Enter: () => this.choose(this.current),
      " ": () => this.choose(this.current),
      Escape: () => this.hold(-1),
    }
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    steps[event.key]()
  }

  choose(place) {
    if (place === null) return
    this.move(place, false)
    const { pairable, causal } = this.data
    if (place === this.held) this.hold(-1)
    else if (this.held >= 0 && pairable && (!causal || place < this.held)) {
      const pair = `${this.held}-${place}`
      if (!this.pairs.delete(pair)) this.pairs.add(pair)
      this.paint()
      this.send({ pair: [this.held, place] })
    } else this.hold(place)
  }

  hold(place) {
    if (this.held === place) return
    this.held = place
    this.paint()
    this.send({ held: place })
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.paint() })
  }

  paint() {
    const { numbers, mode, head, data } = this
    const n = this.spans.length
    const from = this.held >= 0 ? this.held : this.pointed() ?? this.best
    const looks = new Float32Array(n)
    const looked = new Float32Array(n)
    let most = 0
    for (let i = 0; i < n; i++) {
      looks[i] = numbers.value(mode, head, from, i)
      looked[i] = from === 0 && data.rest ? 0 : numbers.value(mode, head, i, from)
      if (i > 0 || !data.rest) most = Math.max(most, looks[i])
    }
    // A row at rest stays pale: what is next to nothing must not look like much.
    const least = mode === "attention" ? 0.02 : mode === "multiple" ? 1
      : 0.02 * numbers.norms.reduce((a, b) => Math.max(a, b), 1e-6)
    const whole = mode === "attention" && !data.rest
    const top = whole ? 1 : Math.max(most, least)
    const high = whole ? 1 : Math.max(looked.reduce((a, b) => Math.max(a, b), 0), least)
    const shade = (value, end) => Math.sqrt(Math.min(Math.max(value / end, 0), 1)).toFixed(3)
    this.spans.forEach((span, i) => {
      span.style.setProperty("--a", data.rest && i === 0 ? 0 : shade(looks[i], top))
      span.style.setProperty("--b", i === from ? 0 : shade(looked[i], high))
      span.classList.toggle("held", i === this.held)
      span.classList.toggle("chosen", this.pairs.has(`${this.held}-${i}`))
      if (i === this.held) span.setAttribute("aria-pressed", "true")
      else span.removeAttribute("aria-pressed")
    })
    this.root.querySelector(".heads b").textContent = data.names[head]
    this.say(from, looks, looked)
  }

  name(i) {
    return make("b", `${i} ${this.data.visible_texts[i]}`)
  }

  say(from, looks, looked) {
    const { mode, numbers, head, data } = this
    const lines = []
    const other = this.pointed()
    if (this.held >= 0 && other !== null && other !== this.held) {
      const [dst, src] = data.causal && other > this.held ? [other, from] : [from, other]
      const line = make("div", undefined, dst === from ? "looks" : "looked")
      const all = MODES.map(one => `${one} ${told(one, numbers.value(one, head, dst, src))}`)
      line.append(this.name(dst), " looks at ", this.name(src), `: ${all.join(", ")}`)
      lines.push(line)
    } else {
      for (const [values, kind, words] of [
        [looks, "looks", " looks at "], [looked, "looked", " is looked at from "],
      ]) {
        const top = values.reduce((a, b) => Math.max(a, b), 0)
        const tells = i => values[i] > top / 100
            && (kind === "looks" || numbers.attention(head, i, from) >= LEAST)
        const order = [...values.keys()].filter(tells)
          .sort((a, b) => values[b] - values[a]).slice(0, BEST)
        if (kind === "looked" && (!order.length || (from === 0 && data.rest))) continue
        const line = make("div", undefined, kind)
        line.append(this.name(from), words)
        order.forEach((i, place) => {
          line.append(place ? ", " : "", this.name(i), ` ${told(mode, values[i])}`)
        })
        lines.push(line)
      }
    }
    this.told.replaceChildren(...lines)
    this.hint.textContent = this.held < 0
      ? "Point at a token, or move with the arrow keys. Click or Enter holds it."
      : data.pairable
        ? "Held. Click an earlier token to ask which heads join the two; Esc lets go."
        : "Held. Point at another token for its numbers; Esc lets go."
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".view")
  root.view ??= new View(root)
  root.view.update(data, setTriggerValue)
}
