// The gateway's own page: a chat and the state of the cluster. Everything it shows goes in as text, never as HTML.
const $ = (id) => document.getElementById(id);
const STATUS_PAUSE = 2000;

let key = sessionStorage.getItem('tandem-key') ?? '';
let model = '';
let turns = [];
let running = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function ask(path, options = {}) {
  const headers = {...options.headers};
  if (key) headers.Authorization = `Bearer ${key}`;
  const reply = await fetch(path, {...options, headers, cache: 'no-store'});
  if (reply.status === 401) {
    $('key-form').hidden = false;
    throw new Error('an API key is needed');
  }
  return reply;
}

async function failureOf(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `the server answered ${reply.status}`;
  }
}

// ---- Tabs.
const tabs = ['chat', 'status'];
function select(name, focus) {
  for (const tab of tabs) {
    const on = tab === name;
    $(tab).hidden = !on;
    $(`tab-${tab}`).setAttribute('aria-selected', String(on));
    $(`tab-${tab}`).tabIndex = on ? 0 : -1;
    if (on && focus) $(`tab-${tab}`).focus();
  }
  if (name === 'status') showStatus();
  if (name === 'chat' && !focus) $('text').focus();
}
for (const tab of tabs) {
  $(`tab-${tab}`).addEventListener('click', () => select(tab));
  $(`tab-${tab}`).addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    select(tabs[(tabs.indexOf(tab) + 1) % tabs.length], true);
  });
}

// ---- Chat.
function drawTurn(turn) {
  const item = element('li');
  turn.text = element('div', turn.content, `turn ${turn.role}`);
  turn.note = element('p', turn.said ?? '', 'note');
  item.append(turn.text, turn.note);
  turn.item = item;
  $('turns').append(item);
  return turn;
}

function setRunning(controller) {
  running = controller;
  $('send').disabled = controller !== null;
  $('stop').disabled = controller === null;
  $('again').disabled = controller !== null || !turns.some((turn) => turn.role === 'assistant');
  $('clear').disabled = controller !== null;
}

function bodyOf() {
  const messages = turns.filter((turn) => turn.content).map(({role, content}) => ({role, content}));
  const system = $('system').value.trim();
  if (system) messages.unshift({role: 'system', content: system});
  const body = {model, messages, stream: true, stream_options: {include_usage: true}};
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed']) {
    if ($(name).value !== '') body[name] = Number($(name).value);
  }
  return body;
}

// Calls `take` with each event of a stream of server-sent events.
async function readEvents(reply, take) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split('\n\n');
    rest = events.pop();
    for (const event of events) {
      if (event.startsWith('data: ') && event !== 'data: [DONE]') take(JSON.parse(event.slice(6)));
    }
  }
}

async function answer() {
  const body = bodyOf();
  const turn = drawTurn({role: 'assistant', content: ''});
  turns.push(turn);
  const controller = new AbortController();
  setRunning(controller);
  const begun = performance.now();
  let first = 0;
  let tokens = 0;
  try {
    if (!model) await findModel();
    body.model = model;
    const reply = await ask('/v1/chat/completions', {
      method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body), signal: controller.signal});
    if (!reply.ok) throw new Error(await failureOf(reply));
    await readEvents(reply, (event) => {
      if (event.error) throw new Error(event.error.message);
      const piece = event.choices[0]?.delta?.content;
      if (piece) {
        first ||= performance.now();
        turn.content += piece;
        turn.text.textContent = turn.content;
        turn.item.scrollIntoView({block: 'nearest'});
      }
      if (event.usage) tokens = event.usage.completion_tokens;
    });
    const seconds = (performance.now() - first) / 1000;
    turn.note.textContent = `${tokens} tokens, first after ${((first - begun) / 1000).toFixed(2)} s` +
      (tokens > 1 ? `, then ${((tokens - 1) / seconds).toFixed(1)} a second` : '');
  } catch (error) {
    const stopped = controller.signal.aborted;
    turn.note.textContent = stopped ? 'stopped' : error.message;
    if (!stopped) turn.note.classList.add('error');
  }
  setRunning(null);
}

function send() {
  const content = $('text').value.trim();
  if (!content || running) return;
  $('text').value = '';
  turns.push(drawTurn({role: 'user', content}));
  answer();
}

$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  send();
});
$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort();
});
$('stop').addEventListener('click', () => running?.abort());
$('again').addEventListener('click', () => {
  const last = turns.pop();
  last.item.remove();
  answer();
});
$('clear').addEventListener('click', () => {
  turns = [];
  $('turns').replaceChildren();
  setRunning(null);
  $('text').focus();
});
$('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  key = $('key').value;
  sessionStorage.setItem('tandem-key', key);
  $('key').value = '';
  $('key-form').hidden = true;
  findModel();
});

async function findModel() {
  try {
    const reply = await ask('/v1/models');
    if (!reply.ok) throw new Error(await failureOf(reply));
    model = (await reply.json()).data[0].id;
    $('line').textContent = model;
  } catch (error) {
    $('line').textContent = error.message;
  }
}

// ---- Status.
function table(id, head, rows) {
  const top = element('tr');
  for (const name of head) top.append(element('th', name));
  $(id).replaceChildren(top, ...rows.map((cells) => {
    const row = element('tr');
    for (const cell of cells) {
      const data = element('td');
      data.append(cell instanceof Node ? cell : String(cell));
      row.append(data);
    }
    return row;
  }));
}

function bar(share, text) {
  const box = element('span');
  const meter = element('meter');
  meter.value = share;
  box.append(meter, ` ${text}`);
  return box;
}

function tiles(entries) {
  $('tiles').replaceChildren(...entries.map(([name, value]) => {
    const tile = element('div');
    tile.append(element('dt', name), element('dd', value));
    return tile;
  }));
}

function bytes(count) {
  return count >= 2 ** 30 ? `${(count / 2 ** 30).toFixed(1)} GiB` : `${(count / 2 ** 20).toFixed(0)} MiB`;
}

async function processRow(target) {
  const {process: name, role, __metrics_path__: path} = target.labels;
  try {
    const reply = await ask(path);
    if (!reply.ok) return [name, role, (await reply.text()).trim(), ''];
    const memory = /^process_resident_memory_bytes (\S+)$/m.exec(await reply.text());
    return [name, role, 'answers', memory ? bytes(Number(memory[1])) : ''];
  } catch (error) {
    return [name, role, error.message, ''];
  }
}

function show(status) {
  $('line').textContent = `${status.model || 'no model yet'}: ${status.state}`;
  tiles([
    ['State', status.state], ['Plan', status.plan], ['Weights', status.weight_format],
    ['Tokens a second', status.decode_tokens_per_second.toFixed(1)],
    ['Prompt tokens a second', status.prefill_tokens_per_second.toFixed(1)],
    ['Running', `${status.running} of ${status.running_limit}`], ['Waiting', `${status.waiting} of ${status.waiting_limit}`],
    ['Requests', status.requests_total], ['Tokens', status.tokens_total], ['Recoveries', status.recoveries],
  ]);
  table('workers', ['Worker', 'Device', 'Busy', 'Process', 'Weights'], status.workers.map((worker) => [
    worker.name, `${worker.device_name} (${worker.driver})`, bar(worker.busy, `${(100 * worker.busy).toFixed(0)} %`),
    `pid ${worker.pid}, ${worker.connected ? 'connected' : 'not connected'}, ${worker.restarts} restarts`,
    [...new Set(worker.weight_imports.map((text) => text.split(': ')[1]))].join(', ')]));
  const byWorker = new Map();
  for (const stage of status.stages) byWorker.set(stage.worker, [...(byWorker.get(stage.worker) ?? []), stage.name]);
  table('stages', ['Worker', 'Stages, in order'], [...byWorker].map(([worker, names]) => [worker, names.join(', ')]));
  table('edges', ['From', 'To', 'Kind'], status.edges.map((edge) => [edge.from, edge.to, edge.kind]));
  table('kv', ['Group', 'Kept for running requests', 'Filled'], status.kv.map((kv) => [
    kv.group, bar(kv.reserved / Math.max(1, kv.blocks), `${kv.reserved} of ${kv.blocks} blocks`), kv.taken]));
}

let statusTimer = 0;
async function showStatus() {
  clearTimeout(statusTimer);
  if ($('status').hidden || document.hidden) return;
  try {
    const reply = await ask('/status');
    if (!reply.ok) throw new Error(await failureOf(reply));
    show(await reply.json());
    const targets = await (await ask('/metrics/targets')).json();
    table('processes', ['Process', 'Role', 'State', 'Memory'], await Promise.all(targets.map(processRow)));
  } catch (error) {
    $('line').textContent = error.message;
  }
  statusTimer = setTimeout(showStatus, STATUS_PAUSE);
}
document.addEventListener('visibilitychange', showStatus);

setRunning(null);
findModel();
$('text').focus();
