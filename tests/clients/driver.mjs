//  What `busbar conform client` asks for on standard input (PROTOCOL.md §17), done with busbar.mjs.
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "./busbar.mjs";

const bus = await connect("conform-node");
const aborts = new Map(); // id of a call → how to cancel it
const stops = new Map(); // channel → how to unsubscribe
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function call({ id, method, ...options }) {
  const abort = new AbortController();
  aborts.set(id, abort);
  const answer = await bus.call(method, { ...options, signal: abort.signal });
  aborts.delete(id);
  return answer;
}

const does = {
  async call(options) {
    const { status, body, meta, cancelled } = await call(options);
    if (!cancelled) say({ id: options.id, status, body, outcome: meta?.outcome });
  },
  async stream(options) {
    let size = 0;
    let sum = 0;
    const chunk = (data) => {
      size += data.length;
      for (const byte of data) sum = (sum + byte) >>> 0;
    };
    const { id } = options;
    const { status, body, error, cancelled } = await call({ ...options, chunk });
    if (cancelled) return;
    if (status >= 400) say({ id, status, body });
    else say(error ? { id, status, error } : { id, status, size, sum });
  },
  cancel({ id }) {
    aborts.get(id)?.abort();
  },
  subscribe({ id, channel, ...position }) {
    let told = false;
    const tell = (news) => {
      if (!news.subscribed) say(news);
      else if (!told) say({ id, ...news });
      told = true;
    };
    stops.set(channel, bus.subscribe(channel, tell, position));
  },
  unsubscribe({ channel }) {
    stops.get(channel)?.();
  },
  async quit() {
    await bus.leave();
    await pause(20);
    process.exit(0);
  },
};

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, ...options } = JSON.parse(line);
  does[what](options);
}
