-- limiter_take_all_gcra: take permits of several limits, or of none, where all are GCRA: limiter_take_all in half the time.
--
-- KEYS[1..n]  of each limit its state, as in include/limiter_gcra.lua
-- ARGV[1..n]  of each limit in turn: microseconds that one permit costs, and microseconds that a full burst costs; behind them, of each in turn,
--             microseconds that the permits asked for cost, or nothing where it is one of each
-- Returns  {0, which has the fewest left, from 0, how many those are, 0, microseconds until it has all} when taken; when denied {1, which one
--          denies for the longest time, permits it has left, microseconds until it could be taken, microseconds until it has all}
-- Retry    unsafe: a repetition takes again
local call, keys, args = redis.call, KEYS, ARGV
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- include limiter_gcra_store
local count, denied, which, wait, reset = #keys, 0, 0, 0, 0
local laters, increments, free = {}, {}, nil
for i = 1, count do
  local key, interval, limit = keys[i], args[2 * i - 1], now + args[2 * i]
  local price = args[2 * count + i] or interval
  -- One by one: MGET takes what is no string for nothing.
  local value = call('GET', key)
  local stored = tonumber(value or now)
  if not stored then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
  local arrival = stored
  if arrival < now then arrival = now elseif arrival > limit then arrival = limit end
  local later = arrival + price
  if later > limit then
    if denied == 0 or later - limit > wait then
      which, free, wait, reset = i - 1, (limit - arrival) / interval, later - limit, arrival - now
    end
    denied = 1
    -- The clock has stepped back: see limiter_gcra.
    if arrival < stored then gcra_store(key, arrival) end
  elseif denied == 0 then
    local left = (limit - later) / interval
    if not free or left < free then free, which, reset = left, i - 1, later - now end
    laters[i] = later
    local epoch = later - later % 5000000
    increments[i] = value and stored >= epoch and stored < epoch + 5000000 and (arrival == stored and price or later - stored)
  end
end
if denied == 0 then
  local pcall = redis.pcall
  for i = 1, count do
    local later, increment = laters[i], increments[i]
    if not increment or pcall('INCRBY', keys[i], increment) ~= later then gcra_store(keys[i], later) end
  end
end
return {denied, which, free, wait, reset}
