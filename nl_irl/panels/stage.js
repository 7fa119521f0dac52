// The stage: a house from above, what the agent sees there, what it was told and what it did, all at one step of its walk.
// `render({model, el})` is what anywidget calls; a page without a kernel calls it with `still(values)` for a model. Text reaches the page as text, never as HTML.
//
// What a model holds: scene (a scan: plan, graph, panoramas), episode (words, walks, traces), step, focus (which walk), heat (a number for each viewpoint), picked
// (the viewpoint that was clicked). Viewpoints are numbered from 0 within their scan. Coordinates are metres, headings radians, 0 is +y, clockwise.

const TURN = 2 * Math.PI
const VIRIDIS = ['#440154', '#472c7a', '#3b518b', '#2c718e', '#21908d', '#27ad81', '#5cc863', '#aadc32', '#fde725']

const clamp = (x, low, high) => Math.min(Math.max(x, low), high)
const around = angle => angle - TURN * Math.round(angle / TURN)                                     // to (-pi, pi]
const percent = share => share >= .995 ? '100 %' : share < .005 ? '0 %' : `${Math.round(100 * share)} %`

function shade(share) {                                                                              // of viridis, 0 to 1
  const at = clamp(share, 0, 1) * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2)
  const [a, b] = [VIRIDIS[k], VIRIDIS[k + 1]].map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)))
  return `rgb(${a.map((x, i) => Math.round(x + (at - k) * (b[i] - x))).join(',')})`
}

function direction(angle) {                                                                          // in words, of an angle from where the agent looks
  const side = angle < 0 ? 'left' : 'right', size = Math.abs(angle) * 360 / TURN
  return size < 20 ? 'ahead' : size < 60 ? `half ${side}` : size < 120 ? side : size < 160 ? `back ${side}` : 'behind'
}

function element(parent, tag, style = '', text = '', attributes = {}) {
  const made = document.createElement(tag)
  if (style) made.className = style
  made.textContent = text
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  parent.append(made)
  return made
}

// A canvas that is as sharp as the screen; `height` in CSS pixels. Returns a context that is cleared and measured in CSS pixels.
function pen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1, size = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size
  canvas.style.height = `${height}px`
  const context = canvas.getContext('2d')
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
  context.clearRect(0, 0, width, height)
  return context
}

// Draws `text` unless it would cover what `taken` holds, and takes its place.
function label(context, taken, text, x, y, {size = 11, color, back, width = Infinity}) {
  context.font = `${size}px system-ui, "Segoe UI", Roboto, sans-serif`
  const half = context.measureText(text).width / 2 + 3
  const box = [clamp(x - half, 0, width - 2 * half), y - size * .75, 0, y + size * .75]
  box[2] = box[0] + 2 * half
  if (taken.some(b => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) return false
  taken.push(box)
  if (back) {
    context.fillStyle = back
    context.beginPath(); context.roundRect(box[0], box[1], box[2] - box[0], box[3] - box[1], 4); context.fill()
  }
  context.fillStyle = color
  context.textAlign = 'center'; context.textBaseline = 'middle'
  context.fillText(text, box[0] + half, y)
  return true
}

const palette = root => {
  const style = getComputedStyle(root)
  return name => style.getPropertyValue(`--${name}`).trim()
}

// The map ---------------------------------------------------------------------------------------------------------------------------------------

// From metres to pixels, so that `box` (x0, y0, x1, y1) fits into a canvas as wide as `width` and at most `tallest` high; y points up.
function fit(box, width, tallest) {
  const margin = 14, [x0, y0, x1, y1] = box
  const scale = Math.min((width - 2 * margin) / Math.max(x1 - x0, 1), (tallest - 2 * margin) / Math.max(y1 - y0, 1))
  const height = Math.round(scale * (y1 - y0) + 2 * margin), left = (width - scale * (x1 - x0)) / 2
  return {scale, height, x: x => left + scale * (x - x0), y: y => height - margin - scale * (y - y0)}
}

function drawPlan(context, scene, floor, to, paint) {                                                // rooms, things, doors, walls
  const box = ([x0, y0, x1, y1]) => [to.x(x0), to.y(y1), to.scale * (x1 - x0), to.scale * (y1 - y0)]
  const line = ([x0, y0, x1, y1]) => { context.beginPath(); context.moveTo(to.x(x0), to.y(y0)); context.lineTo(to.x(x1), to.y(y1)); context.stroke() }
  const tint = Number(paint('tint'))
  for (const room of scene.rooms.filter(r => r.floor === floor)) {
    context.globalAlpha = tint; context.fillStyle = room.tint; context.fillRect(...box(room.box)); context.globalAlpha = 1
    context.strokeStyle = paint('line'); context.lineWidth = 1; room.treads.forEach(line)
  }
  for (const thing of scene.things.filter(t => t.floor === floor)) {
    context.globalAlpha = thing.flat ? .35 : .9; context.fillStyle = thing.paint; context.fillRect(...box(thing.box))
    context.strokeStyle = '#6b665e'; context.lineWidth = .5; context.strokeRect(...box(thing.box)); context.globalAlpha = 1
  }
  context.lineCap = 'square'
  context.strokeStyle = '#c08a55'; context.lineWidth = 1.4; scene.doors.filter(d => d.floor === floor).forEach(d => line(d.line))
  context.strokeStyle = paint('wall'); context.lineWidth = 2.4; scene.walls.filter(w => w.floor === floor).forEach(w => line(w.line))
  context.lineCap = 'butt'
}

function drawNames(context, scene, floor, to, paint, width) {
  const taken = []
  for (const room of scene.rooms.filter(r => r.floor === floor && r.name)) {
    const [x0, y0, x1, y1] = room.box
    label(context, taken, room.name, to.x((x0 + x1) / 2), to.y((y0 + y1) / 2), {color: paint('ink'), back: `${paint('ground')}b8`, width})
  }
  scene.viewpoints.forEach(([x, y, on], v) => {
    if (on === floor && scene.places[v]) label(context, taken, scene.places[v], to.x(x), to.y(y) - 9, {size: 9.5, color: paint('soft'), width})
  })
  const large = thing => thing.floor === floor && !thing.flat && to.scale * Math.sqrt(thing.area) > 16
  for (const thing of scene.things.filter(large).sort((a, b) => b.area - a.area)) {
    const [x0, y0, x1, y1] = thing.box
    label(context, taken, thing.name, to.x((x0 + x1) / 2), to.y((y0 + y1) / 2), {size: 9.5, color: paint('ink'), back: `${paint('ground')}80`, width})
  }
}

function drawGraph(context, scene, floor, to, paint, heat) {                                          // moves and viewpoints, coloured by a heat where there is one
  const on = v => scene.viewpoints[v][2] === floor, point = v => [to.x(scene.viewpoints[v][0]), to.y(scene.viewpoints[v][1])]
  const share = value => heat.high > heat.low ? (value - heat.low) / (heat.high - heat.low) : .5
  context.lineWidth = heat ? 3 : 1
  scene.moves.forEach((moves, v) => moves.forEach(([w], slot) => {
    if (!on(v) && !on(w)) return
    const worth = heat?.moves?.[v]?.[slot]
    if (heat ? worth == null : v > w) return
    const [[x0, y0], [x1, y1]] = [point(v), point(w)]
    context.strokeStyle = heat ? shade(share(worth)) : paint('graph')
    context.globalAlpha = heat ? .8 : .45
    context.beginPath(); context.moveTo(x0, y0)
    context.lineTo(...(heat ? [(x0 + x1) / 2, (y0 + y1) / 2] : [x1, y1])); context.stroke()            // half of an edge is the move that sets out there
  }))
  context.globalAlpha = 1
  scene.viewpoints.forEach(([x, y, level], v) => {
    if (level !== floor) return
    const value = heat?.values[v]
    context.beginPath(); context.arc(to.x(x), to.y(y), heat && value != null ? clamp(to.scale * .34, 5, 11) : 2.4, 0, TURN)
    context.fillStyle = heat && value != null ? shade(share(value)) : paint('graph'); context.fill()
    if (v === heat?.best) { context.lineWidth = 2.5; context.strokeStyle = paint('ink'); context.stroke() }
  })
}

function drawKey(context, heat, width, height, paint) {                                              // what the colours mean
  const long = 110, x = width - long - 14, y = height - 24
  context.fillStyle = paint('card'); context.globalAlpha = .85; context.fillRect(x - 10, y - 16, long + 20, 38); context.globalAlpha = 1
  for (let k = 0; k < long; k++) { context.fillStyle = shade(k / long); context.fillRect(x + k, y, 1.5, 7) }
  context.font = '10px system-ui, sans-serif'; context.fillStyle = paint('ink'); context.textBaseline = 'alphabetic'
  context.textAlign = 'left'; context.fillText(heat.low.toFixed(1), x, y + 17)
  context.textAlign = 'right'; context.fillText(heat.high.toFixed(1), x + long, y + 17)
  context.textAlign = 'center'; context.fillText(heat.name, x + long / 2, y - 4)
}

function drawWalk(context, scene, floor, to, path, shift, {color, dash = [], width = 3}) {           // a path through viewpoints; parts on other floors are left out
  context.strokeStyle = color; context.lineWidth = width; context.lineJoin = 'round'; context.lineCap = 'round'; context.setLineDash(dash)
  const [x, y] = [v => to.x(scene.viewpoints[v][0]) + shift, v => to.y(scene.viewpoints[v][1]) + shift]
  for (let k = 1; k < path.length; k++) {
    if (scene.viewpoints[path[k]][2] !== floor && scene.viewpoints[path[k - 1]][2] !== floor) continue
    context.beginPath(); context.moveTo(x(path[k - 1]), y(path[k - 1])); context.lineTo(x(path[k]), y(path[k])); context.stroke()
  }
  context.setLineDash([])
}

function drawStar(context, x, y, size, color, edge) {
  context.beginPath()
  for (let k = 0; k < 10; k++) context.lineTo(x + Math.sin(k * TURN / 10) * size * (k % 2 ? .45 : 1), y - Math.cos(k * TURN / 10) * size * (k % 2 ? .45 : 1))
  context.closePath(); context.fillStyle = color; context.fill(); context.strokeStyle = edge; context.lineWidth = 1; context.stroke()
}

function drawAgent(context, x, y, heading, color, edge) {
  context.save(); context.translate(x, y); context.rotate(heading)
  context.beginPath(); context.moveTo(0, -12); context.lineTo(8, 9); context.lineTo(0, 5); context.lineTo(-8, 9); context.closePath()
  context.fillStyle = color; context.fill(); context.strokeStyle = edge; context.lineWidth = 1.5; context.stroke(); context.restore()
}

// What the agent sees -------------------------------------------------------------------------------------------------------------------------

function drawPicture(context, picture, heading, middle, width) {                                    // twelve level views side by side, the first along heading 0
  const tall = width * picture.height / picture.width, shift = -((heading / TURN + 1 / 24 - .5) % 1 + 1) % 1 * width
  for (const x of [shift, shift + width]) context.drawImage(picture, x, middle - tall / 2, width, tall)
}

function drawPanorama(context, scene, at, heading, walk, step, width, height, paint, picture) {
  const x = angle => width / 2 + around(angle) / TURN * width, middle = height * .42
  if (picture) drawPicture(context, picture, heading, middle, width)
  context.fillStyle = paint('line'); context.fillRect(0, middle, width, 1)
  const taken = []
  for (const [view, name, weight] of scene.views[at]) {                                             // best seen first
    const angle = (view % 12) * TURN / 12 - heading, row = Math.floor(view / 12) - 1
    const size = clamp(9 + 7 * Math.sqrt(weight), 9, 14), paintOf = scene.paints[name]
    for (const nudge of [0, 13, -13, 26, -26]) {
      const y = middle - row * height * .27 + nudge
      if (y > 6 && y < height - 44 && label(context, taken, scene.labels[name], x(angle), y, {size, color: paint('ink'), back: paint('ground'), width})) {
        if (paintOf) { const b = taken.at(-1); context.fillStyle = paintOf; context.fillRect(b[0] + 2, b[3] - 2, b[2] - b[0] - 4, 2.5) }
        break
      }
    }
  }
  const odds = walk?.probability?.[step], chosen = walk?.action[step]
  scene.moves[at].forEach(([, toward], slot) => {
    const share = odds ? odds[slot + 1] : null, at = x(toward - heading), tall = share == null ? 8 : 3 + 24 * share
    context.fillStyle = slot + 1 === chosen ? walk.color : paint('graph')
    context.beginPath(); context.moveTo(at, height - 17 - tall - 6); context.lineTo(at + 6, height - 17); context.lineTo(at - 6, height - 17); context.fill()
  })
  context.font = '10px system-ui, sans-serif'; context.textAlign = 'center'; context.textBaseline = 'middle'; context.fillStyle = paint('soft')
  for (const [angle, name] of [[-TURN / 4, 'left'], [0, 'ahead'], [TURN / 4, 'right']]) context.fillText(name, x(angle), height - 7)
  context.textAlign = 'left'; context.fillText('behind', 4, height - 7); context.textAlign = 'right'; context.fillText('behind', width - 4, height - 7)
}

function listMoves(parent, scene, at, heading, walk, step) {                                         // the actions, each with its probability
  parent.textContent = ''
  const odds = walk?.probability?.[step], taken = walk?.action[step]
  const actions = [['stop', 'here', 0], ...scene.moves[at].map(([w, toward, metres], k) => [
    direction(around(toward - heading)), `${metres.toFixed(1)} m${scene.near[w] ? ', ' + scene.near[w] : ''}`, k + 1])]
  for (const [where, what, action] of actions) {
    const style = action === taken ? 'nl-taken' : ''
    element(parent, 'span', style, `${action === taken ? '▸ ' : ''}${where}`)
    element(parent, 'span', style, what)
    const bar = element(element(parent, 'span'), 'div', odds ? 'nl-bar' : '')
    bar.style.width = odds ? `${100 * odds[action]}%` : '0'
    if (action === taken) bar.style.background = walk.color
    element(parent, 'span', `nl-share ${style}`, odds ? percent(odds[action]) : '')
  }
}

function drawTrace(context, name, walks, focus, step, last, width, height, paint) {                  // one curve for each walk that has it
  const having = walks.filter(w => w.traces[name]), values = having.flatMap(w => w.traces[name]).filter(v => v != null)
  if (!values.length) return
  const [low, high] = [Math.min(...values), Math.max(...values)], pad = 8, room = width - 46
  const x = k => 6 + room * (last ? k / last : 0), y = v => high > low ? pad + (height - 2 * pad) * (high - v) / (high - low) : height / 2
  context.strokeStyle = paint('ink'); context.globalAlpha = .5; context.lineWidth = 1
  context.beginPath(); context.moveTo(x(step), 0); context.lineTo(x(step), height); context.stroke(); context.globalAlpha = 1
  for (const walk of having) {
    context.strokeStyle = context.fillStyle = walk.color; context.lineWidth = walk === focus ? 2.4 : 1.4
    context.beginPath()
    walk.traces[name].forEach((v, k) => v != null && context.lineTo(x(k), y(v)))
    context.stroke()
    const now = walk.traces[name][Math.min(step, walk.traces[name].length - 1)]
    if (now != null) { context.beginPath(); context.arc(x(Math.min(step, walk.traces[name].length - 1)), y(now), 3.5, 0, TURN); context.fill() }
    if (now != null && walk === focus) {
      context.font = '11px system-ui, sans-serif'; context.textAlign = 'right'; context.textBaseline = 'middle'
      context.fillText(now.toFixed(2), width - 3, height / 2)
    }
  }
}

// All together --------------------------------------------------------------------------------------------------------------------------------

class Stage {
  constructor(model, el) {
    this.model = model; this.timer = null; this.floor = null; this.loaded = new Map()
    // JupyterLab takes the arrow keys unless the element that has the focus says that it wants them
    this.root = element(el, 'div', 'nl-stage', '', {tabindex: 0, role: 'region', 'aria-label': 'Trajectory: arrow keys step, space plays', 'data-lm-suppress-shortcuts': 'true'})
    this.message = element(this.root, 'div', 'nl-message', '', {role: 'status'})
    this.head = element(this.root, 'div', 'nl-head'); this.title = element(this.head, 'span'); this.scores = element(this.head, 'span')
    this.said = element(this.root, 'div', 'nl-said')
    this.body = element(this.root, 'div', 'nl-body')
    const [left, right] = [element(this.body, 'div'), element(this.body, 'div')]
    this.map = element(left, 'canvas', 'nl-map', '', {role: 'img', 'aria-label': 'Map'})
    this.where = element(left, 'div', 'nl-where', '', {'aria-live': 'polite'})
    this.sees = element(right, 'h4', '', 'What it sees'); this.panorama = element(right, 'canvas', '', '', {role: 'img', 'aria-label': 'Panorama'})
    this.does = element(right, 'h4', '', 'What it may do'); this.moves = element(right, 'div', 'nl-moves')
    this.traces = element(right, 'div')
    this.build()
    this.listen(el)
    this.load()
  }

  build() {                                                                                          // the controls
    this.foot = element(this.root, 'div', 'nl-foot')
    const button = (text, name, act) => { const b = element(this.foot, 'button', '', text, {type: 'button', 'aria-label': name, title: name}); b.onclick = act; return b }
    button('|◀', 'First step (Home)', () => this.go(0))
    button('◀', 'Step back (left arrow)', () => this.go(this.step - 1))
    this.play = button('▶', 'Play (space)', () => this.toggle())
    button('▶|', 'Step on (right arrow)', () => this.go(this.step + 1))
    this.slider = element(this.foot, 'input', '', '', {type: 'range', min: 0, 'aria-label': 'Step', 'data-lm-suppress-shortcuts': 'true'})
    this.slider.oninput = () => this.go(Number(this.slider.value))
    this.speed = element(this.foot, 'select', '', '', {'aria-label': 'Steps a second'})
    for (const [value, text] of [[.5, '½×'], [1, '1×'], [2, '2×'], [4, '4×']]) element(this.speed, 'option', '', text, {value})
    this.speed.value = '1'
    this.speed.onchange = () => { if (this.timer) { this.pause(); this.toggle() } }
    this.floors = element(this.foot, 'span'); this.agents = element(this.foot, 'span')
  }

  listen(el) {
    this.model.on('change:scene', () => this.load()); this.model.on('change:episode', () => this.load())
    for (const name of ['step', 'focus', 'heat', 'picked']) this.model.on(`change:${name}`, () => this.draw())
    this.root.onkeydown = event => this.key(event)
    this.map.onclick = event => this.pick(event)
    this.map.onmousemove = event => this.hover(event)
    this.watch = new ResizeObserver(() => this.draw()); this.watch.observe(el)
    this.theme = new MutationObserver(() => this.draw()); this.theme.observe(document.body, {attributes: true, attributeFilter: ['data-jp-theme-light', 'class']})
  }

  close() { clearInterval(this.timer); this.watch.disconnect(); this.theme.disconnect() }

  get scene() { return this.model.get('scene') }
  get episode() { return this.model.get('episode') }
  get walks() { return this.episode.walks ?? [] }
  get last() { return Math.max(0, ...this.walks.map(w => Math.max(w.path.length, w.action.length) - 1)) }
  get step() { return clamp(this.model.get('step'), 0, this.last) }
  get walk() { return this.walks[clamp(this.model.get('focus'), 0, this.walks.length - 1)] }

  set(name, value) { this.model.set(name, value); this.model.save_changes() }

  go(step) {
    step = clamp(step, 0, this.last)
    if (step === this.last) this.pause()
    this.floor = null
    if (step !== this.model.get('step')) this.set('step', step)
    this.draw()
  }

  toggle() {
    if (this.timer) return this.pause()
    if (this.step === this.last) this.go(0)
    this.play.textContent = '❚❚'; this.play.setAttribute('aria-label', 'Pause (space)')
    this.timer = setInterval(() => this.go(this.step + 1), 1000 / Number(this.speed.value))
  }

  pause() { clearInterval(this.timer); this.timer = null; this.play.textContent = '▶'; this.play.setAttribute('aria-label', 'Play (space)') }

  key(event) {
    if (['SELECT', 'TEXTAREA'].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return
    const steps = {ArrowRight: this.step + 1, ArrowLeft: this.step - 1, Home: 0, End: this.last}
    if (event.key in steps) this.go(steps[event.key])
    else if (event.key === ' ' && event.target.tagName !== 'BUTTON') this.toggle()
    else if (/^[1-9]$/.test(event.key) && this.walks[event.key - 1]) this.set('focus', Number(event.key) - 1)
    else return
    event.preventDefault(); event.stopPropagation()
  }

  load() {                                                                                           // a new house or episode
    this.pause()
    const {title = '', words = [], message = ''} = this.episode, shown = this.scene.viewpoints && !message
    this.message.textContent = message || (this.scene.viewpoints ? '' : 'Nothing to show yet.')
    this.message.classList.toggle('nl-hidden', Boolean(shown))
    for (const part of [this.head, this.said, this.body, this.foot]) part.classList.toggle('nl-hidden', !shown)
    if (!shown) return
    this.floor = null
    this.title.textContent = title
    this.said.textContent = ''
    this.spans = words.map(([word, known]) =>
      element(this.said, 'span', known ? '' : 'nl-unknown', word, known ? {} : {title: 'a word that this agent has never learned'}))
    this.slider.max = this.last
    this.listFloors(); this.listAgents(); this.listTraces()
    this.draw()
  }

  listFloors() {
    this.floors.textContent = ''
    this.floorButtons = this.scene.floors.length < 2 ? [] : this.scene.floors.map((floor, k) => {
      const button = element(this.floors, 'button', '', floor.name, {type: 'button'})
      button.onclick = () => { this.floor = k; this.draw() }
      return button
    })
  }

  listAgents() {                                                                                     // the key to the colours; a click looks through that agent's eyes
    this.agents.textContent = ''
    const entry = (name, color) => {
      const button = element(this.agents, 'button', '', '', {type: 'button'}), swatch = element(button, 'span', 'nl-swatch')
      swatch.style.borderTopColor = color
      button.append(name)
      return button
    }
    this.agentButtons = this.walks.map((walk, k) => { const b = entry(walk.name, walk.color); b.onclick = () => this.set('focus', k); return b })
    if (this.episode.demonstration?.length) { const b = entry('demonstration', 'var(--demo)'); b.disabled = true; b.firstChild.style.borderTopStyle = 'dashed' }
  }

  listTraces() {
    this.traces.textContent = ''
    const names = [...new Set(this.walks.flatMap(w => Object.keys(w.traces)))]
    this.curves = names.map(name => {
      element(this.traces, 'h4', '', name)
      const canvas = element(this.traces, 'canvas', '', '', {role: 'img', 'aria-label': name})
      canvas.onclick = event => this.go(Math.round((event.offsetX - 6) / (canvas.clientWidth - 52) * this.last))
      return [name, canvas]
    })
  }

  picture(at) {                                                                                       // what a camera showed there, once it is loaded; null for none
    const uri = this.episode.pictures?.[at]
    if (!uri) return null
    const image = this.loaded.get(uri) ?? Object.assign(new Image(), {src: uri, onload: () => this.draw()})
    this.loaded.set(uri, image)
    return image.naturalWidth ? image : null                       // 0 while it loads, and where it is broken
  }

  draw() {
    if (!this.scene.viewpoints || this.episode.message || !this.root.clientWidth) return
    this.root.classList.toggle('nl-narrow', this.root.clientWidth < 640)
    this.paint = palette(this.root)
    const walk = this.walk, at = walk ? walk.path[Math.min(this.step, walk.path.length - 1)] : this.episode.start
    const heading = walk ? walk.heading[Math.min(this.step, walk.path.length - 1)] : this.episode.heading
    this.drawMap(this.floor ?? this.scene.viewpoints[at][2])
    drawPanorama(pen(this.panorama, this.panorama.clientWidth, 170), this.scene, at, heading, walk, this.step, this.panorama.clientWidth, 170, this.paint, this.picture(at))
    listMoves(this.moves, this.scene, at, heading, walk, this.step)
    for (const [name, canvas] of this.curves)
      drawTrace(pen(canvas, canvas.clientWidth, 46), name, this.walks, walk, this.step, this.last, canvas.clientWidth, 46, this.paint)
    this.drawWords(walk)
    this.slider.value = this.step; this.slider.setAttribute('aria-valuetext', `step ${this.step} of ${this.last}`)
    this.scores.textContent = walk?.scores ?? ''
    this.agentButtons.forEach((b, k) => b.setAttribute('aria-pressed', this.walks[k] === walk))
    this.where.textContent = `Step ${this.step} of ${this.last}${this.scene.near[at] ? ': ' + this.scene.near[at] : ''}${this.ended(walk)}`
  }

  ended(walk) { return walk && this.step >= walk.action.length - 1 && walk.action.at(-1) === 0 ? ', stops here' : '' }

  drawWords(walk) {
    const attention = walk?.attention?.[Math.min(this.step, walk.attention.length - 1)], most = attention ? Math.max(...attention) : 0
    this.spans.forEach((span, k) => { span.style.background = most ? `color-mix(in srgb, ${walk.color} ${Math.round(55 * (attention[k] ?? 0) / most)}%, transparent)` : '' })
  }

  drawMap(floor) {
    const {scene, episode, paint} = this, width = this.map.clientWidth, box = scene.floors[floor].box
    const to = this.to = fit(box, width, 460), heat = this.model.get('heat').values ? this.model.get('heat') : null
    const context = pen(this.map, width, to.height)
    this.shown = floor
    drawPlan(context, scene, floor, to, paint)
    drawGraph(context, scene, floor, to, paint, heat)
    drawNames(context, scene, floor, to, paint, width)
    const place = v => [to.x(scene.viewpoints[v][0]), to.y(scene.viewpoints[v][1])], here = v => scene.viewpoints[v][2] === floor
    const demonstration = episode.demonstration ?? []
    drawWalk(context, scene, floor, to, demonstration, 2, {color: paint('demo'), dash: [7, 5], width: 2.6})
    if (demonstration.length && here(demonstration.at(-1))) drawStar(context, ...place(demonstration.at(-1)), 9, paint('demo'), paint('ground'))
    const inOrder = [...this.walks.filter(w => w !== this.walk), ...(this.walk ? [this.walk] : [])]           // the one that is looked at lies on top
    for (const walk of inOrder) drawWalk(context, scene, floor, to, walk.path.slice(0, this.step + 1), -2, {color: walk.color})
    for (const walk of inOrder) {
      const k = Math.min(this.step, walk.path.length - 1)
      if (here(walk.path[k])) drawAgent(context, ...place(walk.path[k]), walk.heading[k], walk.color, paint('ground'))
    }
    if (!this.walk && here(episode.start)) drawAgent(context, ...place(episode.start), episode.heading, paint('accent'), paint('ground'))
    const picked = this.model.get('picked')
    if (scene.viewpoints[picked] && here(picked)) { context.beginPath(); context.arc(...place(picked), 9, 0, TURN); context.strokeStyle = paint('accent'); context.lineWidth = 2.5; context.stroke() }
    if (heat) drawKey(context, heat, width, to.height, paint)
    this.floorButtons.forEach((b, k) => b.setAttribute('aria-pressed', k === floor))
  }

  nearest(event) {                                                                                   // the viewpoint under the mouse, or -1
    const gap = this.scene.viewpoints.map(([x, y, floor]) => floor === this.shown ? Math.hypot(this.to.x(x) - event.offsetX, this.to.y(y) - event.offsetY) : Infinity)
    const best = gap.indexOf(Math.min(...gap))
    return gap[best] < 16 ? best : -1
  }

  pick(event) { const v = this.nearest(event); if (v >= 0) this.set('picked', v) }

  hover(event) {
    const v = this.nearest(event), heat = this.model.get('heat'), value = heat.values?.[v]
    this.map.title = v < 0 ? '' : `${this.scene.ids[v]}${this.scene.near[v] ? ', ' + this.scene.near[v] : ''}${value != null ? `, ${heat.name} ${value.toFixed(2)}` : ''}`
  }
}

// A model without a kernel: what a static page gives to `render`.
export function still(values) {
  const heard = {}
  return {
    get: name => values[name], on: (event, act) => { (heard[event] ??= []).push(act) }, save_changes: () => {},
    set: (name, value) => { if (values[name] !== value) { values[name] = value; (heard[`change:${name}`] ?? []).forEach(act => act()) } },
  }
}

export function render({model, el}) {
  const stage = new Stage(model, el)
  return () => stage.close()
}

export default {render}
