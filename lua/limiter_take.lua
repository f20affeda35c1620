-- limiter_take: let `cost` permits through if the limit allows it now (GCRA).
--
-- KEYS[1]  the theoretical arrival time: when all that was let through will have been paid for, microseconds of server time
-- ARGV[1]  microseconds that one permit costs
-- ARGV[2]  microseconds that a full burst costs: permits of a burst times ARGV[1]
-- ARGV[3]  permits asked for
-- ARGV[4]  'take', or 'peek' to answer as if and write nothing
-- Returns  {1 when let through or 0 when denied, permits left, microseconds until this could be let through, microseconds until the burst is
--          whole again}
-- Retry    unsafe: a repetition takes again
local key, interval, window, cost, mode = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local arrival = tonumber(redis.call('GET', key) or now)
if not arrival then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
if arrival < now then
  arrival = now  -- a time in the past owes nothing
elseif arrival > now + window then
  -- Further than any taker could have left it: the clock has stepped back. Written down, or it would be so again next time.
  arrival = now + window
  if mode == 'take' then redis.call('SET', key, arrival, 'PX', math.ceil(window / 1000)) end
end

local later = arrival + cost * interval
local wait = later - window - now
if wait > 0 then
  return {0, math.floor((now + window - arrival) / interval), wait, arrival - now}
end
if mode == 'take' then
  redis.call('SET', key, later, 'PX', math.ceil((later - now) / 1000))
end
return {1, math.floor((now + window - later) / interval), 0, later - now}
