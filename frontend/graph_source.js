/*!
@license The layout library @dagrejs/dagre 3.1.3 and @dagrejs/graphlib 4.0.6, which is in it:

Copyright (c) 2012-2014 Chris Pettitt

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.
*/

// The graph of a look: layers upward, tokens across, an edge for what one node gives another.
//
// dagre says which row a node is in, how high the rows are, which rows an edge passes, and the
// order of nodes that share a token. It keeps no columns: where a token stands is found here.
// Texts are written with textContent alone.

import { Graph as DagreGraph, layout } from "@dagrejs/dagre"

const HIGH = 40 // of a node
const ROWS = 62 // between two rows
const GUTTER = 50 // for the names of layers
const NARROW = 62 // the least between two columns
const GAP = 22 // the least between two nodes
const CLEAR = 9 // between a node and an edge that passes it
const EDGE = 20 // around it all
const NAMES = 36 // for the names of tokens
const FACE = "12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"

const clamp = (value, least, most) => Math.min(Math.max(value, least), most)

function make(name, className, text) {
  const element = document.createElement(name)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

function draw(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  return element
}

function grouped(all, name) {
  const groups = new Map()
  for (const one of all) {
    const key = name(one)
    if (!groups.has(key)) groups.set(key, [])
    groups.get(key).push(one)
  }
  return groups
}

const pen = document.createElement("canvas").getContext("2d")

function width(text) {
  pen.font = FACE
  return pen.measureText(text).width
}

// The row of each node: a layer's own, or one of several layers that give each other nothing.
// What is no look (an MLP) comes after its layer's looks.
function rowsOf(nodes, edges) {
  const level = node => 2 * node.layer + (node.look || node.layer < 0 ? 0 : 1)
  const levels = grouped([...nodes].sort((a, b) => level(a) - level(b)), level)
  const row = new Map()
  let here = []
  let number = -1
  for (const all of levels.values()) {
    const ids = new Set(all.map(node => node.id))
    const before = new Set(here.map(node => node.id))
    const places = new Set(here.map(node => node.position))
    const joined = edges.some(edge => before.has(edge.source) && ids.has(edge.target))
    const crowded = all.some(node => places.has(node.position)) || here.length + all.length > 6
    if (!here.length || joined || crowded || here[0].layer < 0) {
      number += 1
      here = []
    }
    here = [...here, ...all]
    for (const node of all) row.set(node.id, number)
  }
  return row
}

// Rows, heights and passed rows by dagre, with edges of one row's difference a row long.
function byDagre(nodes, edges, row) {
  const graph = new DagreGraph({ multigraph: true })
  graph.setGraph({ rankdir: "BT", ranksep: ROWS, nodesep: GAP, edgesep: 8 })
  graph.setDefaultEdgeLabel(() => ({}))
  const sorted = [...nodes].sort((a, b) => a.position - b.position)
  for (const { id, wide } of sorted) graph.setNode(id, { width: wide, height: HIGH })
  const group = new Map(nodes.map(({ id }) => [id, id]))
  const first = id => { while (group.get(id) !== id) id = group.get(id); return id }
  edges.forEach(({ source, target }, i) => {
    const minlen = Math.max(row.get(target) - row.get(source), 1)
    graph.setEdge(source, target, { minlen, weight: 1 }, String(i))
    group.set(first(source), first(target))
  })
  // Parts that nothing joins are joined unseen, so that their rows are the same.
  for (const { id } of nodes) {
    const [one, other] = [id, nodes[0].id].sort((a, b) => row.get(a) - row.get(b))
    const apart = row.get(other) - row.get(one)
    if (first(id) === first(nodes[0].id) || !apart) continue
    graph.setEdge(one, other, { minlen: apart, weight: 0 }, "unseen")
    group.set(first(one), first(other))
  }
  layout(graph)
  return graph
}

// Where the columns stand: as near to each other as the nodes in every row allow.
function columnsOf(columns, rows, names) {
  const x = new Map()
  const groups = rows.map(nodes => grouped(nodes, node => node.position))
  const span = nodes => nodes.reduce((sum, node) => sum + node.wide + GAP, -GAP)
  const last = new Map() // row → the position that was last in it
  columns.forEach((place, i) => {
    let at = i ? x.get(columns[i - 1]) + NARROW : 0
    if (i) at = Math.max(at, x.get(columns[i - 1]) + (names[i - 1] + names[i]) / 2 + 8)
    groups.forEach((group, row) => {
      if (!group.has(place)) return
      const before = last.get(row)
      if (before !== undefined) {
        const apart = (span(group.get(before)) + span(group.get(place))) / 2
        at = Math.max(at, x.get(before) + apart + GAP + rows[row].passes)
      }
      last.set(row, place)
    })
    x.set(place, at)
  })
  return x
}

// A curve through points, each higher than the one before, that never turns back between two.
function curve(points) {
  const slopes = points.map((point, i) => {
    if (!i || i === points.length - 1) return 0
    const one = (point.x - points[i - 1].x) / (point.y - points[i - 1].y)
    const two = (points[i + 1].x - point.x) / (points[i + 1].y - point.y)
    return one * two <= 0 ? 0 : 2 * one * two / (one + two)
  })
  const parts = []
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1], points[i]]
    const step = (to.y - from.y) / 3
    parts.push([from, { x: from.x + slopes[i - 1] * step, y: from.y + step },
      { x: to.x - slopes[i] * step, y: to.y - step }, to])
  }
  return parts
}

const path = parts => `M${parts[0][0].x},${parts[0][0].y}` + parts.map(
  ([, a, b, to]) => `C${a.x},${a.y} ${b.x},${b.y} ${to.x},${to.y}`).join("")

// A point of a curve, ``t`` of 0 to 1 along it.
function along(parts, t) {
  const heights = parts.map(([from, , , to]) => Math.abs(to.y - from.y))
  let left = t * heights.reduce((a, b) => a + b, 0)
  let i = 0
  while (i < parts.length - 1 && left > heights[i]) left -= heights[i++]
  const u = heights[i] ? clamp(left / heights[i], 0, 1) : 0
  const [a, b, c, d] = parts[i]
  const mix = name => a[name] * (1 - u) ** 3 + 3 * b[name] * u * (1 - u) ** 2
    + 3 * c[name] * u ** 2 * (1 - u) + d[name] * u ** 3
  return { x: mix("x"), y: mix("y") }
}

// Everything's place. ``room`` the width there is: columns are spread where it is not used.
function placed(data, room) {
  const nodes = data.nodes.map(node => ({
    ...node,
    wide: clamp(Math.ceil(Math.max(width(node.text.trim()), width(node.title))) + 20, 76, 176),
  }))
  const find = new Map(nodes.map(node => [node.id, node]))
  const edges = data.edges.map(edge => ({ ...edge }))
  const row = rowsOf(nodes, edges)
  const graph = byDagre(nodes, edges, row)
  for (const node of nodes) node.y = graph.node(node.id).y + EDGE
  const heights = [...new Set(nodes.map(node => node.y))].sort((a, b) => a - b)
  const rows = heights.map(y => nodes.filter(node => node.y === y).sort(
    (a, b) => a.position - b.position || graph.node(a.id).x - graph.node(b.id).x))
  edges.forEach((edge, i) => {
    const { y: low } = find.get(edge.source)
    const { y: high } = find.get(edge.target)
    edge.passed = [...new Set(graph.edge(edge.source, edge.target, String(i)).points
      .map(point => point.y + EDGE))]
      .map(y => heights.findIndex(height => Math.abs(height - y) < 1)).filter(at => at >= 0)
      .filter(at => (heights[at] - low) * (heights[at] - high) < 0)
  })
  for (const [i, all] of rows.entries())
    all.passes = Math.min(edges.filter(edge => edge.passed.includes(i)).length, 5) * 4

  const columns = data.columns.map(([place]) => place)
  const names = data.columns.map(([, text]) => clamp(width(text), 20, 90))
  const x = columnsOf(columns, rows, names)
  const spread = () => {
    for (const all of rows)
      for (const [place, same] of grouped(all, node => node.position)) {
        let at = x.get(place) - same.reduce((sum, node) => sum + node.wide + GAP, -GAP) / 2
        for (const node of same) {
          node.x = at + node.wide / 2
          at += node.wide + GAP
        }
      }
    const left = Math.min(...nodes.map(node => node.x - node.wide / 2), ...x.values())
    const right = Math.max(...nodes.map(node => node.x + node.wide / 2), ...x.values())
    return [left, right]
  }
  let [left, right] = spread()
  const spare = room - GUTTER - 2 * EDGE - (right - left)
  const long = Math.max(...x.values())
  if (spare > 0 && long > 0) {
    const more = Math.min(1 + spare / long, 1.7)
    for (const [place, at] of x) x.set(place, at * more)
    ;[left, right] = spread()
  }
  route(edges, find, rows, heights)
  for (const { parts } of edges)
    for (const [from, , , to] of parts) {
      left = Math.min(left, from.x - 8, to.x - 8)
      right = Math.max(right, from.x + 8, to.x + 8)
    }
  // All that was found so far counts from its own left; what is left of the room is at both sides.
  const wide = right - left + GUTTER + 2 * EDGE
  const shift = GUTTER + EDGE - left + Math.max((room - wide) / 2 - GUTTER / 2, 0)
  for (const node of nodes) node.x += shift
  for (const [place, at] of x) x.set(place, at + shift)
  const points = new Set(edges.flatMap(({ parts }) => parts.flat()))
  for (const point of points) point.x += shift
  const high = Math.max(...heights) + HIGH / 2 + EDGE
  numbers(edges, nodes)
  return { nodes, edges, rows, heights, x, wide: Math.max(wide, room), high }
}

// The way of every edge: from the top of its source to the bottom of its target, and in every row
// between them where no node is.
function route(edges, find, rows, heights) {
  const ends = (name, other) => {
    for (const [id, all] of grouped(edges, edge => edge[name])) {
      const node = find.get(id)
      all.sort((a, b) => find.get(a[other]).x - find.get(b[other]).x || (a.side < b.side ? 1 : -1))
      const apart = Math.min((node.wide - 20) / Math.max(all.length - 1, 1), 16)
      all.forEach((edge, i) => { edge[`${name}X`] = node.x + (i - (all.length - 1) / 2) * apart })
    }
  }
  ends("source", "target")
  ends("target", "source")
  const taken = rows.map(() => [])
  const blocked = (at, x) => rows[at].some(
    node => Math.abs(x - node.x) < node.wide / 2 + CLEAR)
  const free = (at, x) => !blocked(at, x) && taken[at].every(other => Math.abs(x - other) >= 9)
  const length = edge => Math.abs(edge.sourceX - edge.targetX)
  for (const edge of [...edges].sort((a, b) => length(a) - length(b))) {
    const source = find.get(edge.source)
    const target = find.get(edge.target)
    const up = source.y > target.y ? -1 : 1
    const begin = { x: edge.sourceX, y: source.y + up * HIGH / 2 }
    const end = { x: edge.targetX, y: target.y - up * HIGH / 2 }
    const points = [begin]
    for (const at of edge.passed.sort((a, b) => up * (heights[a] - heights[b]))) {
      const last = points.at(-1)
      const line = y => last.x + (end.x - last.x) * (y - last.y) / (end.y - last.y)
      const y = heights[at]
      const [low, high] = [y - up * HIGH / 2, y + up * HIGH / 2]
      if (free(at, line(y)) && !blocked(at, line(low)) && !blocked(at, line(high))) {
        points.push({ x: line(y), y })
        taken[at].push(line(y))
        continue
      }
      let x = line(y)
      for (let far = 0; !free(at, x); far += 3)
        x = free(at, line(y) - far) ? line(y) - far : line(y) + far
      points.push({ x, y: low }, { x, y: high })
      taken[at].push(x)
    }
    points.push(end)
    edge.points = points
  }
  // Where edges begin and end side by side, they do so in the order in which they go on.
  for (const [name, end, next] of [["source", 0, 1], ["target", -1, -2]])
    for (const all of grouped(edges, edge => edge[name]).values()) {
      const ports = all.map(edge => edge.points.at(end).x).sort((a, b) => a - b)
      const sorted = all.toSorted((a, b) => a.points.at(next).x - b.points.at(next).x
        || a[`${name}X`] - b[`${name}X`])
      sorted.forEach((edge, i) => { edge.points.at(end).x = ports[i] })
    }
  for (const edge of edges) edge.parts = curve(edge.points)
}

// Where numbers stand: on their edge, where neither a node nor another number is; the largest first.
function numbers(edges, nodes) {
  const boxes = nodes.map(({ x, y, wide }) => [x - wide / 2, y - HIGH / 2, x + wide / 2, y + HIGH / 2])
  const hits = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
  for (const edge of [...edges].sort((a, b) => Math.abs(b.nats) - Math.abs(a.nats))) {
    const half = edge.short.length * 3.3 + 3
    edge.crowded = true
    edge.at = along(edge.parts, 0.5)
    for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82, 0.1, 0.9]) {
      const { x, y } = along(edge.parts, t)
      const box = [x - half, y - 8, x + half, y + 8]
      if (boxes.some(other => hits(box, other))) continue
      boxes.push(box)
      edge.at = { x, y }
      edge.crowded = false
      break
    }
  }
}

class Graph {
  constructor(root) {
    this.root = root
    this.box = root.querySelector(".box")
    this.stage = root.querySelector(".stage")
    this.told = root.querySelector(".told")
    this.stage.addEventListener("keydown", event => this.key(event))
    this.sizes = new ResizeObserver(() => {
      if (!this.data || Math.abs(this.box.clientWidth - this.room) <= 1) return
      this.paint()
      this.select()
    })
  }

  update(data, send) {
    this.send = send
    const { selected, ...rest } = data
    const said = JSON.stringify(rest)
    const fresh = said !== this.said
    this.said = said
    const moved = fresh || !this.data || this.data.selected !== selected
    this.data = data
    if (fresh) this.paint()
    if (moved) this.select()
    this.sizes.observe(this.box)
  }

  paint() {
    const { data, stage, box } = this
    const focused = this.root.getRootNode().activeElement?.dataset?.id
    this.room = box.clientWidth
    this.list()
    this.say()
    if (!data.nodes.length) {
      stage.replaceChildren()
      return
    }
    const all = this.all = placed(data, Math.max(this.room, 200))
    stage.style.width = `${all.wide}px`
    this.find = new Map(all.nodes.map(node => [node.id, node]))
    const buttons = all.nodes.map(node => this.button(node))
    this.buttons = new Map(buttons.map(button => [button.dataset.id, button]))
    const place = make("div", "place")
    place.style.height = `${all.high}px`
    place.append(this.layers(), this.lines(), ...buttons)
    stage.replaceChildren(place, this.names())
    this.mark()
    if (focused !== undefined) this.buttons.get(focused)?.focus({ preventScroll: true })
  }

  button(node) {
    const button = make("button", `node ${node.open ? "open" : ""} ${node.look ? "" : "other"}`)
    button.type = "button"
    button.dataset.id = node.id
    button.setAttribute("aria-label", node.label)
    button.title = `${node.title} ${node.text.trim()}`
    button.append(make("b", "", node.title), make("span", "", node.text))
    Object.assign(button.style, {
      left: `${node.x - node.wide / 2}px`, top: `${node.y - HIGH / 2}px`,
      width: `${node.wide}px`, height: `${HIGH}px`,
    })
    button.onclick = () => this.send("node", node.id)
    button.onpointerenter = () => this.lightNode(node)
    button.onfocus = () => {
      this.current = node.id
      this.mark()
      this.lightNode(node)
    }
    button.onpointerleave = () => this.leave()
    button.onblur = () => this.light()
    return button
  }

  lines() {
    const { all } = this
    const svg = draw("svg", { width: all.wide, height: all.high, "aria-hidden": "true" })
    for (const x of all.x.values())
      svg.append(draw("line", { class: "column", x1: x, x2: x, y1: 4, y2: all.high }))
    const most = Math.max(...all.edges.map(edge => Math.abs(edge.nats)), 1e-9)
    const texts = []
    const inOrder = [...all.edges].sort((a, b) => Math.abs(a.nats) - Math.abs(b.nats))
    this.drawn = inOrder.map(edge => {
      const size = 1.2 + 7.8 * Math.abs(edge.nats) / most
      const d = path(edge.parts)
      const line = draw("path", { class: "line", d, "stroke-width": size.toFixed(2) })
      if (edge.side === "key") line.setAttribute("stroke-dasharray", `${size + 5} ${size / 2 + 3}`)
      const hit = draw("path", { class: "hit", d })
      const kind = edge.nats < 0 ? "minus" : "plus"
      const group = draw("g", { class: `edge ${kind}` })
      const text = draw("text", {
        class: `amount ${edge.crowded ? "crowded" : ""}`, x: edge.at.x, y: edge.at.y,
      })
      text.textContent = edge.short
      const number = draw("g", { class: "edge" })
      number.append(text)
      texts.push(number)
      hit.onpointerenter = () => this.light(other => other === edge, edge.words)
      hit.onpointerleave = () => this.leave()
      group.append(line, hit)
      svg.append(group)
      return { edge, group, number }
    })
    svg.append(...texts)
    this.svg = svg
    return svg
  }

  layers() {
    const side = make("div", "layers")
    side.setAttribute("aria-hidden", "true")
    this.all.rows.forEach((nodes, i) => {
      const layers = nodes.map(node => node.layer)
      const [least, most] = [Math.min(...layers), Math.max(...layers)]
      const name = most < 0 ? "input" : least === most ? `L${most}` : `L${Math.max(least, 0)}–${most}`
      const label = make("div", "", name)
      label.style.top = `${this.all.heights[i]}px`
      side.append(label)
    })
    return side
  }

  names() {
    const foot = make("div", "names")
    foot.setAttribute("aria-hidden", "true")
    const places = [...this.all.x.values()]
    this.data.columns.forEach(([place, text], i) => {
      const label = make("div")
      label.style.left = `${places[i]}px`
      const beside = [places[i - 1], places[i + 1]].filter(x => x !== undefined)
      const most = Math.min(...beside.map(x => Math.abs(x - places[i])), 150) - 6
      label.style.maxWidth = `${most}px`
      label.title = `${place} ${text}`
      label.append(make("span", "", text), make("small", "", String(place)))
      foot.append(label)
    })
    return foot
  }

  list() {
    this.root.querySelector(".words").replaceChildren(
      ...this.data.edges.map(edge => make("li", "", edge.words)))
  }

  // Lets edges stand out, and says what is pointed at; without arguments, nothing is.
  light(which, words) {
    this.svg.classList.toggle("dimmed", which !== undefined)
    for (const { edge, group, number } of this.drawn)
      for (const part of [group, number]) part.classList.toggle("lit", which?.(edge) ?? false)
    this.say(words)
  }

  lightNode({ id, label }) {
    this.light(edge => edge.source === id || edge.target === id, label)
  }

  // Where the pointer leaves, what the keys have come to is told again.
  leave() {
    const id = this.stage.querySelector(".node:focus-visible")?.dataset.id
    if (id === undefined) this.light()
    else this.lightNode(this.find.get(id))
  }

  say(words) {
    this.told.textContent = words ?? (this.data.nodes.length
      ? "Point at a node or an edge for its numbers; click a node, or press Enter, to choose it."
      : "There is nothing to draw.")
  }

  // The one node that the Tab key comes to, and the one that is selected.
  mark() {
    const { selected } = this.data
    const ids = [this.current, selected, this.all.rows[0][0].id]
    this.current = ids.find(id => this.buttons.has(id))
    for (const [id, button] of this.buttons) {
      button.tabIndex = id === this.current ? 0 : -1
      button.setAttribute("aria-pressed", String(id === selected))
    }
  }

  // Brings the selected node into the box; the page itself never moves.
  select() {
    if (!this.data.nodes.length) return
    this.mark()
    const node = this.find.get(this.data.selected)
    if (!node) return
    const { box } = this
    const [left, right] = [box.scrollLeft + GUTTER, box.scrollLeft + box.clientWidth]
    if (node.x - node.wide / 2 < left || node.x + node.wide / 2 > right)
      box.scrollLeft = node.x - (box.clientWidth + GUTTER) / 2
    const [top, bottom] = [box.scrollTop, box.scrollTop + box.clientHeight - NAMES]
    if (node.y - HIGH / 2 < top || node.y + HIGH / 2 > bottom)
      box.scrollTop = node.y - box.clientHeight / 2
  }

  // The arrow keys: the next in the row, or the nearest of the next row.
  key(event) {
    const here = this.find?.get(event.target.dataset?.id)
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return
    const { rows, heights } = this.all
    const at = heights.indexOf(here.y)
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    const climb = { ArrowUp: -1, ArrowDown: 1 }[event.key]
    let next
    if (step) next = rows[at][rows[at].indexOf(here) + step]
    else if (climb) next = rows[at + climb]?.toSorted(
      (a, b) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x))[0]
    else return
    event.preventDefault()
    event.stopPropagation()
    if (next) this.buttons.get(next.id).focus()
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".graph")
  root.graph ??= new Graph(root)
  root.graph.update(data, setTriggerValue)
  return () => root.graph.sizes.disconnect()
}
