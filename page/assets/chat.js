// A conversation with what a run has made: each question is answered with the adapter and by the base alone.

class Talk {
  constructor(run) {
    Object.assign(this, {run, opened: null, error: '', answering: null});
    this.with = el('input', {type: 'checkbox', checked: true, id: 'with-adapter'});
    this.without = el('input', {type: 'checkbox', checked: true, id: 'with-base'});
    this.scale = el('input', {type: 'number', value: 1, min: -4, max: 4, step: 0.25, id: 'scale'});
    this.temperature = el('input', {type: 'number', value: 0, min: 0, max: 2, step: 0.1, id: 'temperature'});
    this.most = el('input', {type: 'number', value: 128, min: 1, max: 4096, id: 'most'});
    this.question = el('textarea', {id: 'question', keydown: e => {
      if (e.key !== 'Enter' || e.shiftKey) return;
      e.preventDefault();
      this.send();
    }});
    this.history = {adapter: [], base: []};
    this.said = el('div');
    this.body = el('div');
    this.render();
  }

  render() {
    const why = this.run.details?.no_chat;
    if (why) return this.body.replaceChildren(el('p', {class: 'quiet'}, why));
    if (!this.opened) {
      return this.body.replaceChildren(...[
        el('p', {}, 'The base is loaded for this, in this program, and takes its memory while the page is served.'),
        el('p', {}, el('button', {type: 'button', class: 'main', disabled: this.opening, click: () => this.open()}, this.opening ? 'Loading …' : 'Load the model')),
        this.error && el('p', {class: 'error', role: 'alert'}, this.error)].filter(Boolean));
    }
    const label = (text, input, behind = '') => el('label', {for: input.id}, input, ' ' + text + behind);
    this.sendButton = el('button', {type: 'button', class: 'main', click: () => this.answering ? this.answering.abort() : this.send()}, 'Send');
    this.body.replaceChildren(
      ...(this.opened.notes ?? []).map(note => el('p', {class: 'quiet'}, note)),
      this.said,
      el('div', {class: 'ask'},
        el('label', {for: 'question'}, this.opened.template ? 'Say something' : 'Text to continue: the model has no chat template'), this.question,
        el('div', {class: 'line'}, this.sendButton, el('button', {type: 'button', click: () => this.reset()}, 'Begin anew'),
          label('with the adapter', this.with), label('base alone', this.without), label('scale of the adapter', this.scale),
          label('temperature', this.temperature), label('tokens at most', this.most)),
        el('p', {class: 'hint'}, 'Enter sends, Shift and Enter begin a new line.')));
  }

  async open() {
    this.opening = true;
    this.error = '';
    this.render();
    try {
      this.opened = await (await ask(`/api/runs/${this.run.id}/chat`)).json();
    } catch (e) {
      this.error = e.message;
    }
    this.opening = false;
    this.render();
    if (this.opened) this.question.focus();
  }

  reset() {
    this.answering?.abort();
    this.history = {adapter: [], base: []};
    this.said.replaceChildren();
    this.question.focus();
  }

  async send() {
    const text = this.question.value;
    const voices = [[this.with, 'adapter', 'with the adapter'], [this.without, 'base', 'base alone']].filter(([box]) => box.checked);
    if (this.answering || !text.trim() || !voices.length) return;
    this.answering = new AbortController();
    this.sendButton.textContent = 'Stop';
    this.question.value = '';
    const boxes = voices.map(([, , who]) => el('div', {class: 'text'}));
    this.said.append(el('div', {class: 'said'}, el('p', {class: 'wrap'}, text),
      el('div', {class: 'answers'}, voices.map(([, , who], i) => el('div', {}, el('p', {class: 'who'}, who), boxes[i])))));
    for (const [i, [, voice]] of voices.entries()) {
      try {
        await this.answer(voice, text, boxes[i]);
      } catch (e) {
        if (e.name !== 'AbortError') boxes[i].append(el('p', {class: 'error', role: 'alert'}, e.message));
        break;
      }
    }
    this.answering = null;
    this.sendButton.textContent = 'Send';
  }

  // answer asks one voice and writes what it says into a box as it comes. What was said of an answer that was stopped counts.
  async answer(voice, text, box) {
    const history = this.history, messages = [...history[voice], {role: 'user', content: text}];
    const body = {model: voice === 'adapter' ? `adapter:${Number(this.scale.value)}` : 'base', stream: true,
      temperature: Number(this.temperature.value), max_tokens: Number(this.most.value)};
    if (this.opened.template) body.messages = messages;
    else body.prompt = text;
    let said = '';
    try {
      const answer = await ask(`/api/runs/${this.run.id}/chat/${this.opened.template ? 'chat' : 'text'}`, {method: 'POST', signal: this.answering.signal, body: JSON.stringify(body)});
      for await (const event of eventsOf(answer.body)) {
        if (event.error) throw new Error(event.error.message);
        const piece = event.choices?.[0]?.delta?.content ?? event.choices?.[0]?.text ?? '';
        said += piece;
        box.append(piece);
      }
    } finally {
      if (said) history[voice] = [...messages, {role: 'assistant', content: said}];
    }
  }
}

// eventsOf yields the objects of a stream of server-sent events.
async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line.startsWith('data: {')) yield JSON.parse(line.slice(6));
  }
}
