//  A client of the bus, written from PROTOCOL.md: calls, streamed answers and events.
import { randomUUID as word } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { ExtensionCodec, decodeMulti, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const options = { linger: 0, immediate: true, sendTimeout: 0, maxMessageSize: 17 << 20 };
const problem = (status, code, meta) => ({ status, meta, body: { code, error: code } });
const readyJson = (data) => JSON.parse(Buffer.from(data)), extensionCodec = new ExtensionCodec();
extensionCodec.register({ type: 1, encode: () => null, decode: readyJson });
const wire = { 2: "usuu", 3: "ss", 4: "uf*", 5: "sss*f", 7: "uu**", 8: "ubfs", 12: "usss",
  14: "ssuusss*", 16: "u" }; // messages that a client hears, and the types of their fields
const empty = { u: 0, s: "", f: false, b: Buffer.alloc(0), "*": null };
const fits = (type, value) => type === "*" || value.constructor === empty[type].constructor;
function* unpack(frame) {
  const limits = { extensionCodec, maxArrayLength: frame.length };
  try {
    for (const [number, ...given] of decodeMulti(frame, limits)) {
      const types = [...(wire[number] ?? "")], fields = types.map((t, i) => given[i] ?? empty[t]);
      if (types.length && types.every((t, i) => fits(t, fields[i]))) yield [number, fields];
    }
  } catch { /* malformed: what came before it holds */ }
}
function rank({ slot }, key) {
  const mix = (h, by) => BigInt.asUintN(64, (h ^ (h >> 33n)) * by);
  const add = (h, byte) => BigInt.asUintN(64, (h ^ BigInt(byte)) * 0x100000001b3n);
  const h = Buffer.from(`${slot}\0${key}`).reduce(add, 0xcbf29ce484222325n);
  return mix(mix(mix(h, 0xff51afd7ed558ccdn), 0xc4ceb9fe1a85ec53n), 1n);
}

export async function connect(name, run = process.env.BUSBAR_RUN) {
  const me = [name, `${name}-${word()}`, word()];
  const links = new Set(), waiting = new Set(); // connections; calls that no instance has
  const entries = new Map(), subs = new Map(); // the directory, by slot; subscriptions, by channel
  let next = Math.floor(Math.random() * 2 ** 47), heartbeat = 500, broker, placing, listed;
  const all = (test) => [...entries.values()].filter(test);
  const dial = () => open(`ipc://${run}/broker.s`, "client", { routingId: word() });

  function open(endpoint, role, own) {
    const socket = new Dealer({ ...options, ...own, sendHighWaterMark: 0 });
    const link = { socket, credit: 0, silent: 0, calls: new Map() };
    link.send = (...message) => socket.send(encode(message)).then(() => true, () => false);
    link.hello = () => link.send(1, 1, role, ...me);
    socket.events.on("disconnect", () => lost(link));
    socket.connect(endpoint);
    links.add(link);
    listen(link);
    return link;
  }
  async function listen(link) {
    while (links.has(link) && !(await link.hello())) await pause(5); // not connected yet
    link.credit = 64;
    place();
    for await (const [frame] of link.socket) {
      link.silent = 0;
      for (const [number, fields] of unpack(frame)) heard[number](link, ...fields);
    }
  }
  async function lost(link) {
    if (!links.delete(link)) return;
    await pause(10); // what came before the end is still read
    link.socket.close();
    if (link === broker) broker = dial();
    for (const it of link.calls.values()) {
      if (it.head) finish(it, { ...it.head, error: "UNAVAILABLE" });
      else if (!it.sent || (it.again && it.tries < 3)) place(it);
      else finish(it, problem(503, "UNAVAILABLE", { outcome: "unknown" }));
    }
  }
  function reach(entry) {
    if (!entry.endpoint) return broker;
    if (!links.has(entry.link)) entry.link = open(entry.endpoint, "caller");
    return entry.link;
  }
  function place(it) { // with what waits, at the end of this turn
    if (it) waiting.add(it);
    placing ??= setImmediate(() => { placing = null; waiting.forEach(give); });
  }
  function give(it) {
    const route = (e) => e.routes.find(({ method }) => method === it.method), able = all(route);
    if (!able.length) return finish(it, problem(404, "NOT_FOUND"));
    const up = able.filter((e) => e.state === "up"), claims = (e) => e.claims.includes(it.key);
    const better = (a, b) => (rank(b, it.key) > rank(a, it.key) ? b : a);
    const owner = it.key && (able.find(claims) ?? up.reduce(better, up[0]));
    const near = up.filter((e) => !it.key || e === owner).map(reach);
    const free = near.filter((l) => links.has(l) && l.calls.size < l.credit);
    const pick = () => free.splice(Math.random() * free.length, 1)[0], a = pick(), b = pick();
    const link = b?.calls.size < a?.calls.size ? b : a;
    if (!link) return;
    const again = route(able[0]).idempotent || route(able[0]).verb === "GET";
    waiting.delete(it);
    link.calls.set(it.id, Object.assign(it, { link, again, tries: it.tries + 1 }));
    const ttl = Math.max(1, Math.ceil(it.end - performance.now()));
    const sending = link.send(6, it.id, it.method, it.key, ttl, "", null, ...it.rest);
    sending.then((sent) => { it.sent = sent; });
  }
  function finish(it, answer, cancel) {
    if (cancel) it.link?.send(10, it.id);
    clearTimeout(it.timer);
    waiting.delete(it);
    it.link?.calls.delete(it.id);
    it.resolve?.(answer);
    place();
  }
  function late(it) {
    const unplaced = problem(503, "UNAVAILABLE", { retry_after: 1 });
    finish(it, it.link ? problem(504, "TIMEOUT") : unplaced, true);
  }
  //  → {status, body, meta}; of a stream, which goes to chunk(), {error} too; or {cancelled}
  const call = (method, { key = "", ttl = 30000, params, body, meta, chunk, signal } = {}) =>
    new Promise((resolve) => {
      const it = { id: next++, method, key, rest: [params, body, meta], chunk, resolve, tries: 0 };
      Object.assign(it, { end: performance.now() + ttl, timer: setTimeout(late, ttl, it) });
      signal?.addEventListener("abort", () => finish(it, { cancelled: true }, true));
      if (waiting.size < 10000) place(it);
      else late(it);
    });
  function enter(entry) { // what is gone stays, so that its methods are known
    const { name, slot, boot, state } = entry, old = entries.get(slot), same = old?.boot === boot;
    if (state === "gone" && !same) return;
    if (state === "gone" || !same) lost(old?.link);
    const last = same ? old : { routes: [], channels: [], claims: [] };
    entries.set(slot, state === "up" ? { ...last, ...entry } : { ...entry, ...last, state });
    if (state === "gone") entries.get(slot).claims = [];
    const stale = all((e) => state === "up" && e.state === "gone" && e.name === name);
    for (const e of stale) entries.delete(e.slot);
  }
  const heard = {
    2(link, version, boot, beat, credit) { // WELCOME
      link.credit = credit;
      if (link === broker) heartbeat = beat;
      if (link === broker) subs.forEach((sub) => sub.ask());
      place();
    },
    3(link, code, text) { // REFUSED
      if (!["UNKNOWN", "UNAVAILABLE"].includes(code)) throw new Error(`${code}: ${text}`);
      setTimeout(link.hello, code === "UNKNOWN" ? 0 : 1000);
    },
    4(link, revision, whole, list) { // DIRECTORY
      list.forEach(enter);
      place();
      if (!whole) return;
      const missing = all((e) => !list.some(({ slot }) => slot === e.slot));
      const forget = (e) => entries.get(e.slot) === e && enter({ ...e, state: "gone" });
      setTimeout(() => missing.forEach(forget), 3000);
      listed();
    },
    5(link, actor, slot, boot, keys, release) { // CLAIM
      for (const e of all(({ name }) => name === actor)) {
        const own = e.slot === slot && e.boot === boot;
        if (own || !release) e.claims = e.claims.filter((key) => !keys.includes(key));
        if (own && !release) e.claims.push(...keys);
      }
      place();
    },
    7(link, id, status, body, meta) { // REPLY
      const it = link.calls.get(id) ?? {}, head = { status, body, meta };
      if (!meta?.stream) return finish(it, head);
      if (!it.chunk) return finish(it, problem(500, "INTERNAL"), true);
      clearTimeout(it.timer);
      it.head = head;
      link.send(9, id, 16);
    },
    async 8(link, id, data, last, error) { // CHUNK
      const it = link.calls.get(id);
      if (!it?.head) return;
      if (last || error) link.calls.delete(id);
      await it.chunk(data);
      if (last || error) finish(it, { ...it.head, error });
      else link.send(9, id, 1);
    },
    12(link, id, channel, code, text) { // SUBSCRIBED
      const sub = subs.get(channel);
      if (code) sub?.tell({ refused: { channel, code, text } });
      else sub?.catchUp();
    },
    14: (link, channel, epoch, off, prev, key, type, at, data) => // EVENT
      subs.get(channel)?.take({ channel, epoch, off, key, type, at, data }),
    16: (link) => link.send(17, 0), // PING
  };
  //  tell() hears {subscribed} when the log was read, {event}, {gap}, {refused}; → how to stop
  function subscribe(channel, tell, { epoch = "", off = null } = {}) {
    const id = next++, [key, collection] = channel.split("/");
    const deliver = (event) => { ({ epoch, off } = event); tell({ event }); };
    let aside;
    function take(event) {
      const ahead = event.epoch === epoch ? event.off - off : Infinity;
      if (!event.off) tell({ event });
      else if (aside) aside.push(event);
      else if (ahead > 1) catchUp([event]);
      else if (ahead === 1) deliver(event);
    }
    async function catchUp(events = []) { // at the start, after a reconnect, at a hole
      const mine = [...(aside ?? []), ...events], body = { ch: channel, epoch, from: off ?? 0 };
      aside = mine;
      const [owner] = all(({ channels }) => channels.some((c) => c.name === collection));
      const { status, body: log } = await call(`${owner?.name}.live.read`, { key, body });
      if (aside !== mine || !subs.has(channel)) return; // begun anew, or over
      if (status === 503 || status === 504) return setTimeout(catchUp, 100);
      tell({ subscribed: channel });
      if (status === 200) {
        if (log.gap) tell({ gap: { channel, ...log.gap } });
        [epoch, off] = [log.epoch, log.gap?.to ?? off ?? log.top];
        const news = log.events.filter((event) => event.off > off);
        for (const event of news) deliver({ channel, epoch, ...event });
        if (off < log.top) return catchUp();
      }
      aside = null;
      mine.forEach(status === 200 ? take : deliver);
    }
    const ask = () => broker.send(11, id, channel);
    subs.set(channel, { ask, take, catchUp, tell });
    ask();
    return () => subs.delete(channel) && broker.send(13, channel);
  }
  const leave = () => Promise.all([...links].map((link) => link.send(18, ""))); // then exit
  function beat() {
    broker.send(16, 0);
    if (++broker.silent > 4) lost(broker);
    setTimeout(beat, heartbeat);
  }

  broker = dial();
  beat();
  await new Promise((resolve) => { listed = resolve; });
  return { call, subscribe, leave };
}
