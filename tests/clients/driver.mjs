//  driver.mjs -- busbar.mjs under `busbar conform client`: lines of JSON in, lines of JSON out.

import { createInterface } from "node:readline";
import { Bus } from "./busbar.mjs";
import { Feed } from "./live.mjs";

const say = line => process.stdout.write(JSON.stringify(line) + "\n");
const bus = new Bus(process.env.BUSBAR_RUN, () => say({ ready: true })), calls = new Map();
const commands = {
    call({ id, ...call }) {
        const done = (status, body, outcome) => say({ id, status, body, outcome });
        calls.set(id, bus.call({ ...call, done }));
    },
    stream({ id, ...call }) {
        let size = 0, sum = 0;
        const chunk = (data, last, error) => {
            size += data?.length ?? 0;
            for (const byte of data ?? []) sum = (sum + byte) >>> 0;
            if (last) say(error ? { id, status: 200, error } : { id, status: 200, size, sum });
        };
        calls.set(id, bus.call({ ...call, chunk, done: (status, body) => say({ id, status, body }) }));
    },
    cancel: ({ id }) => bus.cancel(calls.get(id)),
    subscribe({ id, channel, epoch, off }) {
        const feed = new Feed(channel, epoch, off);
        feed.onReady = () => say({ id, subscribed: channel });
        feed.onEvent = event => say({ event: { channel, ...event } });
        feed.onGap = gap => say({ gap: { channel, ...gap } });
        bus.subscribe(feed);
    },
    unsubscribe: ({ channel }) => bus.unsubscribe(channel),
    quit: () => bus.leave().then(() => setTimeout(() => process.exit(0), 100)),
};
for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...command } = JSON.parse(line);
    commands[name](command);
}
