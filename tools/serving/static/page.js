// The page: sends an image, shows its boxes and kernels, and requests them again for new thresholds.
'use strict';

const THRESHOLDS = ['seg_map_thresh', 'min_area_thresh', 'min_box_side', 'min_score'];
const CHOICES = [...THRESHOLDS, 'output_shape'];
const SVG = 'http://www.w3.org/2000/svg';
// Milliseconds without a movement of a slider before a request.
const PAUSE = 120;
// Red, green, blue, as in page.css.
const ABOVE = [25, 224, 180];
const BELOW = [61, 123, 224];
// Status codes after which a retry may succeed: dropped, too slow, queue full, server error.
const PASSING = [0, 404, 408, 429, 500, 503];

const state = {
  file: null,         // the image that is shown
  answer: null,       // the response of the server
  kernel: 0,          // 0 for boxes, or the number of the kernel shown
  scores: new Map(),  // number of a kernel -> ImageData of its score map
  upload: null,       // AbortController of the current upload
  query: null,        // AbortController of the last request for thresholds
  timer: 0,
};

const byId = (id) => document.getElementById(id);

// ---- messages

function setState(name) {
  const loading = name === 'loading';
  document.body.dataset.state = name;
  byId('stage').setAttribute('aria-busy', String(loading));
  byId('thresholds').disabled = loading;
  byId('another').disabled = loading;
  tabs().forEach((tab) => { tab.disabled = loading; });
  ['result-file', 'json-file'].forEach((id) => {
    byId(id).setAttribute('aria-disabled', String(loading));
  });
}

function say(text) {
  byId('status').textContent = text;
}

function showError(error) {
  byId('alert-text').textContent = sentence(error.message);
  byId('retry').hidden = !(state.file && PASSING.includes(error.status));
  byId('alert').hidden = false;
}

function hideError() {
  byId('alert').hidden = true;
}

function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return capital.endsWith('.') ? capital : `${capital}.`;
}

function count(number) {
  return number === 1 ? '1 box' : `${number || 'No'} boxes`;
}

function duration(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  const milliseconds = 1000 * seconds;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

// ---- the server

function failure(message, status) {
  return Object.assign(new Error(message), {status});
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw failure('the server does not answer; see whether it still runs', 0);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw failure(told.error || `the server answered ${response.status}`, response.status);
}

function query() {
  return new URLSearchParams(CHOICES.map((name) => [name, byId(name).value])).toString();
}

async function upload(file) {
  if (state.upload) state.upload.abort();
  const attempt = new AbortController();
  state.upload = attempt;
  hideError();
  try {
    checkSize(file);
    startLoading(file);
    const form = new FormData();
    form.append('image', file);
    const response = await ask(`/detect?${query()}`,
                               {method: 'POST', body: form, signal: attempt.signal});
    const answer = await response.json();
    if (state.upload === attempt) showResult(answer);
  } catch (error) {
    if (state.upload === attempt) endLoading(error);
  }
}

function checkSize(file) {
  const most = Number(document.body.dataset.maxUploadMb);
  if (file.size > most * 2 ** 20) {
    state.file = null;
    throw failure(`${file.name} exceeds the ${most} MB limit of an upload`, 413);
  }
}

function startLoading(file) {
  state.file = file;
  state.answer = null;
  state.scores.clear();
  clearTimeout(state.timer);
  if (state.query) state.query.abort();
  showPicture(file);
  drawBoxes({boxes: [], image: {width: 1, height: 1}});
  listBoxes([]);
  byId('none').hidden = true;
  byId('heading').textContent = 'Looking…';
  byId('size').textContent = file.name;
  ['read', 'network', 'post_processing'].forEach((part) => {
    byId(`seconds-${part}`).textContent = '';
  });
  selectView(0);
  setState('loading');
  say(`Looking for text in ${file.name}`);
  byId('cancel').focus();
}

function endLoading(error) {
  setState('empty');
  byId('choose').focus();
  if (error.name === 'AbortError') say('Cancelled');
  else showError(error);
}

function showResult(answer) {
  state.upload = null;
  showAnswer(answer);
  setState('result');
  byId('heading').focus({preventScroll: true});
}

function askAgainSoon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(askAgain, PAUSE);
}

async function askAgain() {
  if (!state.answer) return;
  if (state.query) state.query.abort();
  const question = new AbortController();
  state.query = question;
  try {
    const response = await ask(`/detections/${state.answer.id}?${query()}`,
                               {signal: question.signal});
    const answer = await response.json();
    if (state.query !== question || !state.answer) return;
    hideError();
    showAnswer(answer);
  } catch (error) {
    if (error.name !== 'AbortError') showError(error);
  }
}

async function trySample(button) {
  try {
    const response = await ask(button.dataset.sample);
    upload(new File([await response.blob()], button.dataset.name));
  } catch (error) {
    showError(error);
  }
}

// ---- image and boxes

function showPicture(file) {
  const picture = byId('picture');
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name;
  picture.hidden = true;  // until it has been decoded
  picture.onload = () => {
    picture.hidden = false;
    if (!state.answer) setAspect(picture.naturalWidth, picture.naturalHeight);
  };
}

function setAspect(width, height) {
  byId('frame').style.setProperty('--aspect', width / height);
}

function showAnswer(answer) {
  state.answer = answer;
  const {width, height} = answer.image;
  setAspect(width, height);
  drawBoxes(answer);
  listBoxes(answer.boxes);
  byId('none').hidden = answer.boxes.length > 0;
  paintKernel();
  byId('heading').textContent = count(answer.boxes.length);
  byId('size').textContent = `${state.file.name}, ${width} × ${height} pixels`;
  Object.entries(answer.seconds).forEach(([part, seconds]) => {
    byId(`seconds-${part}`).textContent = duration(seconds);
  });
  offerFiles(answer.id);
  say(`${count(answer.boxes.length)} found in ${state.file.name}`);
}

function offerFiles(id) {
  const stem = state.file.name.replace(/\.[^.]*$/, '');
  const offer = (link, url, name) => Object.assign(byId(link), {href: url, download: name});
  offer('result-file', `/detections/${id}/result.txt?${query()}`, `res_${stem}.txt`);
  offer('json-file', `/detections/${id}?${query()}`, `res_${stem}.json`);
}

function drawBoxes({boxes, image}) {
  const svg = byId('boxes');
  svg.setAttribute('viewBox', `0 0 ${image.width} ${image.height}`);
  // All edges first, so that no edge covers the line of another box.
  svg.replaceChildren(...boxes.map((box) => polygon(box, 'edge')),
                      ...boxes.map((box, index) => chooser(polygon(box, 'line'), index)));
}

function polygon(box, name) {
  const shape = document.createElementNS(SVG, 'polygon');
  shape.setAttribute('class', name);
  shape.setAttribute('points', box.points.map((point) => point.join(',')).join(' '));
  return shape;
}

function listBoxes(boxes) {
  byId('list').replaceChildren(...boxes.map((box, index) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.append(part('number', index + 1), part('sides', size(box)),
                  part('place', `at ${corner(box.points)}`));
    item.append(chooser(button, index));
    return item;
  }));
}

function part(name, text) {
  const span = document.createElement('span');
  span.className = name;
  span.textContent = text;
  return span;
}

function corner(points) {
  return [0, 1].map((axis) => Math.min(...points.map((point) => point[axis]))).join(', ');
}

function size({points, score}) {
  const shape = points.length === 4 ? sides(points) : `${points.length} points`;
  return `${shape}, score ${score.toFixed(2)}`;
}

function sides([first, second, third]) {
  const length = (a, b) => Math.round(Math.hypot(a[0] - b[0], a[1] - b[1]));
  const [short, long] = [length(first, second), length(second, third)].sort((a, b) => a - b);
  return `${long} × ${short} pixels`;
}

// Pointing at a box highlights its line in the list, and vice versa, also with the keyboard.
function chooser(element, index) {
  const mark = () => choose(index);
  const unmark = () => choose(-1);
  element.addEventListener('pointerenter', mark);
  element.addEventListener('pointerleave', unmark);
  element.addEventListener('focus', mark);
  element.addEventListener('blur', unmark);
  element.addEventListener('click', () => {
    const button = byId('list').children[index].firstElementChild;
    button.focus({preventScroll: true});
    button.scrollIntoView({block: 'nearest'});
  });
  return element;
}

function choose(chosen) {
  document.querySelectorAll('#boxes .line').forEach((line, index) => {
    line.classList.toggle('chosen', index === chosen);
  });
  document.querySelectorAll('#list button').forEach((button, index) => {
    button.classList.toggle('chosen', index === chosen);
  });
}

// ---- kernels

function tabs() {
  return [...byId('views').querySelectorAll('[role="tab"]')];
}

function selectView(kernel) {
  state.kernel = kernel;
  tabs().forEach((tab, index) => {
    tab.setAttribute('aria-selected', String(index === kernel));
    tab.tabIndex = index === kernel ? 0 : -1;
  });
  byId('stage').setAttribute('aria-labelledby', `tab-${kernel}`);
  byId('frame').classList.toggle('kernel', kernel > 0);
  byId('kernel-bar').hidden = kernel === 0;
  byId('boxes').toggleAttribute('hidden', kernel > 0);
  byId('kernel').hidden = true;
  byId('kernel-text').textContent = kernel ? tabs()[kernel].title : '';
  if (kernel) showKernel(kernel);
}

async function showKernel(kernel) {
  try {
    if (!state.scores.has(kernel)) state.scores.set(kernel, await fetchScores(kernel));
    paintKernel();
  } catch (error) {
    showError(error);
  }
}

async function fetchScores(kernel) {
  const response = await ask(`/detections/${state.answer.id}/kernels/${kernel}.png`);
  const bitmap = await createImageBitmap(await response.blob());
  const canvas = document.createElement('canvas');
  Object.assign(canvas, {width: bitmap.width, height: bitmap.height});
  const context = canvas.getContext('2d');
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

function paintKernel() {
  const scores = state.scores.get(state.kernel);
  if (!scores) return;
  const canvas = byId('kernel');
  Object.assign(canvas, {width: scores.width, height: scores.height});
  canvas.getContext('2d').putImageData(coloured(scores), 0, 0);
  canvas.hidden = false;
}

function coloured(scores) {
  const least = 255 * Number(byId('seg_map_thresh').value);
  const image = new ImageData(scores.width, scores.height);
  for (let place = 0; place < scores.data.length; place += 4) {
    const score = scores.data[place];
    const above = score > least;
    image.data.set(above ? ABOVE : BELOW, place);
    image.data[place + 3] = above ? 215 : score;
  }
  return image;
}

// ---- events

function chooseFile() {
  byId('file').click();
}

function showValue(name) {
  byId(`${name}-value`).textContent = byId(name).value;
}

function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove('dragging');
  const file = event.dataTransfer.files[0];
  if (file) upload(file);
}

function onTabKey(event) {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const all = tabs();
  const next = (state.kernel + step + all.length) % all.length;
  selectView(next);
  all[next].focus();
}

function listen() {
  byId('choose').addEventListener('click', chooseFile);
  byId('another').addEventListener('click', chooseFile);
  byId('cancel').addEventListener('click', () => state.upload.abort());
  byId('dismiss').addEventListener('click', hideError);
  byId('retry').addEventListener('click', () => upload(state.file));
  byId('file').addEventListener('change', ({target}) => {
    if (target.files[0]) upload(target.files[0]);
    target.value = '';  // allows choosing the same file again
  });
  document.querySelectorAll('[data-sample]').forEach((button) => {
    button.addEventListener('click', () => trySample(button));
  });
  listenToDrops();
  listenToControls();
}

function listenToDrops() {
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dragging');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dragging');
  });
  document.addEventListener('drop', onDrop);
}

function listenToControls() {
  THRESHOLDS.forEach((name) => byId(name).addEventListener('input', () => {
    showValue(name);
    paintKernel();
    askAgainSoon();
  }));
  byId('output_shape').addEventListener('change', askAgain);
  byId('form').addEventListener('submit', (event) => event.preventDefault());
  // The values change only after the event.
  byId('form').addEventListener('reset', () => setTimeout(() => {
    THRESHOLDS.forEach(showValue);
    paintKernel();
    askAgain();
  }));
  tabs().forEach((tab, index) => tab.addEventListener('click', () => selectView(index)));
  byId('views').addEventListener('keydown', onTabKey);
  byId('underneath').addEventListener('change', ({target}) => {
    byId('frame').classList.toggle('alone', !target.checked);
  });
}

listen();
