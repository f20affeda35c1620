// npm's redlock on one server as a contender: the words, lines and records are those of
// contenders.h. With the single word --available it only says, by its exit code, whether redlock and
// ioredis are installed.
'use strict';

const fs = require('fs');
const readline = require('readline');

let Redis, Redlock;
try {
  Redis = require('ioredis');
  Redlock = require('redlock');
} catch (error) {
  process.exit(1);
}
// Versions differ in how they export the class, and in what they call the calls.
Redis = Redis.default || Redis;
Redlock = Redlock.default || Redlock;

const now = () => process.hrtime.bigint();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function takeTurns(redlock, name, begin, end, section, who) {
  const turns = [];
  while (now() < begin) await sleep(1);
  for (;;) {
    const asked = now();
    if (asked >= end) return turns;
    const lock = await (redlock.acquire || redlock.lock).call(redlock, [name], 10000);
    const got = now();
    await sleep(section / 1000);
    const released = now();
    await (lock.release || lock.unlock).call(lock);
    const turn = Buffer.alloc(32);
    [asked, got, released].forEach((time, i) => turn.writeBigInt64LE(time, 8 * i));
    turn.writeInt32LE(who, 24);
    turns.push(turn);
  }
}

async function main(url, name, section, who, path) {
  const client = new Redis(url.replace(/^unix:\/\//, ''));
  await client.ping();
  // As many tries as a wait of 20 s may take; the pause between two is the default.
  const redlock = new Redlock([client], { retryCount: 200 });
  let turns = [];
  process.stdout.write('.');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [begin, end] = line.split(' ').map(BigInt);
    turns = await takeTurns(redlock, name, begin, end, Number(section), Number(who));
    process.stdout.write('.');
  }
  fs.writeFileSync(path, Buffer.concat(turns));
  client.disconnect();
}

if (process.argv[2] === '--available') process.exit(0);
main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
