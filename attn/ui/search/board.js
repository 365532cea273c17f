// The board: a click or a stroke draws cells, or takes them away where it begins on a drawn one.
//
// Python sends the cells and the head's pattern; a stroke goes back as all cells when it ends.
// Texts are written with textContent and fillText alone.

const MARK = "#f76707"
const FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"

const bytes = text => Uint8Array.from(atob(text), char => char.charCodeAt(0))

class Board {
  constructor(root) {
    this.root = root
    this.canvas = root.querySelector("canvas")
    this.told = root.querySelector(".told")
    this.cells = new Set()
    this.stroke = 0
    this.at = null
    const on = (name, act) => this.canvas.addEventListener(name, act)
    on("pointerdown", event => this.down(event))
    on("pointermove", event => this.moved(event))
    on("pointerup", () => this.up())
    on("pointercancel", () => this.up())
    on("pointerleave", () => { if (!this.drawing) this.point(null) })
    on("keydown", event => this.key(event))
    on("focus", () => { if (!this.at) this.point([this.n - 1, 0]) })
  }

  update(data, send) {
    this.send = send
    this.data = data
    this.n = data.texts.length
    // What was drawn since the server's answer was on its way is not taken back by it.
    if (!this.drawing && data.stroke >= this.stroke) {
      this.stroke = data.stroke
      this.cells = new Set(data.cells.split(",").filter(Boolean))
    }
    this.labels = this.longest() + 10
    const room = Math.max(this.root.clientWidth - this.labels - 4, 120)
    this.size = Math.min(Math.max(Math.floor(room / this.n), 5), 24)
    if (this.at && Math.max(...this.at) >= this.n) this.at = null
    this.picture = this.pattern()
    this.paint()
    this.say()
  }

  // Room for the names of tokens, in pixels.
  longest() {
    const context = this.canvas.getContext("2d")
    context.font = `12px ${FONT}`
    return Math.max(...this.data.texts.map(text => context.measureText(this.short(text)).width))
  }

  pattern() {
    const { n, data } = this
    const shades = bytes(data.shades)
    const colours = bytes(data.palette)
    const image = new ImageData(n, n)
    for (let place = 0; place < n * n; place++) {
      const hidden = data.causal && place % n > Math.floor(place / n)
      const colour = 3 * shades[place]
      image.data.set(
        [colours[colour], colours[colour + 1], colours[colour + 2], hidden ? 0 : 255], 4 * place)
    }
    const canvas = document.createElement("canvas")
    canvas.width = canvas.height = n
    canvas.getContext("2d").putImageData(image, 0, 0)
    return canvas
  }

  paint() {
    const { n, size, canvas, data, labels } = this
    const side = labels + n * size
    const sharp = window.devicePixelRatio || 1
    canvas.width = canvas.height = side * sharp
    canvas.style.width = canvas.style.height = `${side}px`
    const context = canvas.getContext("2d")
    context.scale(sharp, sharp)
    context.imageSmoothingEnabled = false
    context.drawImage(this.picture, labels, labels, n * size, n * size)
    context.fillStyle = getComputedStyle(this.root).color
    context.font = `${Math.min(size - 1, 12)}px ${FONT}`
    context.textBaseline = "middle"
    const step = Math.ceil(9 / size)
    data.texts.forEach((text, i) => {
      if (i % step) return
      const place = labels + (i + 0.5) * size
      context.textAlign = "right"
      context.fillText(this.short(text), labels - 6, place)
      context.save()
      context.translate(place, labels - 6)
      context.rotate(-Math.PI / 2)
      context.textAlign = "left"
      context.fillText(this.short(text), 0, 0)
      context.restore()
    })
    const gap = size > 8 ? 1 : 0
    for (const cell of this.cells) {
      const [dst, src] = cell.split("-").map(Number)
      const x = labels + src * size + gap
      const y = labels + dst * size + gap
      const wide = size - 2 * gap
      context.lineWidth = size > 8 ? 3 : 2
      context.strokeStyle = MARK
      context.strokeRect(x + 1, y + 1, wide - 2, wide - 2)
    }
    if (this.at) {
      const [dst, src] = this.at
      context.lineWidth = 1
      context.strokeStyle = context.fillStyle
      context.strokeRect(labels + src * size + 0.5, labels + dst * size + 0.5, size - 1, size - 1)
    }
  }

  short(text) {
    return text.length > 16 ? `${text.slice(0, 15)}…` : text
  }

  // The cell under the pointer, null where there is none or the mask hides it.
  place(event) {
    const dst = Math.floor((event.offsetY - this.labels) / this.size)
    const src = Math.floor((event.offsetX - this.labels) / this.size)
    return this.allowed(dst, src) ? [dst, src] : null
  }

  allowed(dst, src) {
    const top = this.data.causal ? dst : this.n - 1
    return dst >= 0 && dst < this.n && src >= 0 && src <= top
  }

  point(cell) {
    if (String(cell) === String(this.at)) return
    this.at = cell
    this.later()
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.paint(); this.say() })
  }

  draw([dst, src]) {
    const name = `${dst}-${src}`
    if (this.adding) this.cells.add(name)
    else this.cells.delete(name)
    this.at = [dst, src]
    this.later()
  }

  down(event) {
    const cell = this.place(event)
    if (!cell || event.button) return
    this.canvas.setPointerCapture(event.pointerId)
    this.drawing = true
    this.adding = !this.cells.has(`${cell[0]}-${cell[1]}`)
    this.last = cell
    this.draw(cell)
  }

  moved(event) {
    const cell = this.place(event)
    if (!this.drawing) return this.point(cell)
    if (!cell) return
    // A fast pointer skips cells: those on the straight line are drawn, too.
    const steps = Math.max(Math.abs(cell[0] - this.last[0]), Math.abs(cell[1] - this.last[1]))
    for (let i = 1; i <= steps; i++) {
      const on = [0, 1].map(k => Math.round(this.last[k] + (i / steps) * (cell[k] - this.last[k])))
      if (this.allowed(...on)) this.draw(on)
    }
    this.last = cell
  }

  up() {
    if (!this.drawing) return
    this.drawing = false
    this.tell()
  }

  tell() {
    this.stroke += 1
    const order = cell => cell.split("-").map(Number)
    const cells = [...this.cells].sort((a, b) => {
      const [one, two] = [order(a), order(b)]
      return one[0] - two[0] || one[1] - two[1]
    })
    this.send("change", { cells: cells.join(","), stroke: this.stroke })
  }

  key(event) {
    const steps = {
      ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
    }
    const [dst, src] = this.at ?? [this.n - 1, 0]
    if (steps[event.key]) {
      const next = [dst + steps[event.key][0], src + steps[event.key][1]]
      if (this.allowed(...next)) this.point(next)
    } else if (event.key === " " || event.key === "Enter") {
      this.adding = !this.cells.has(`${dst}-${src}`)
      this.draw([dst, src])
      this.tell()
    } else return
    event.preventDefault()
    event.stopPropagation()
  }

  say() {
    const bold = text => {
      const element = document.createElement("b")
      element.textContent = text
      return element
    }
    if (!this.at) {
      this.told.textContent =
        "Click a cell, or draw over several, to ask for them; once more takes them away."
      return
    }
    const [dst, src] = this.at
    const { texts } = this.data
    this.told.replaceChildren(
      bold(`${dst} ${texts[dst]}`), " looks at ", bold(`${src} ${texts[src]}`),
      this.cells.has(`${dst}-${src}`) ? ": asked for" : "")
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".board")
  root.board ??= new Board(root)
  root.board.update(data, setTriggerValue)
}
