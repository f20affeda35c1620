-- limiter_log: the time of each permit taken, of which `limit` lie within `period`. Needs `call` and `now`. `log` writes nothing and returns
-- what limiter_gcra says, but for what to write: a table for `log_store`.
--
-- The state is a list of times, oldest first. One counts until `period` has passed, and no longer.
local function log(key, limit, period, cost, mode)
  local length = call('LLEN', key)
  local function at(index) return tonumber(call('LINDEX', key, index)) or error('WRONGTYPE the key holds something else than a rate limiter') end
  -- The first index of which `holds` is true: near the front as a rule, so in growing steps, and then by halves.
  local function first(holds)
    local low, step = 0, 1
    while low + step <= length and not holds(at(low + step - 1)) do
      low, step = low + step, step * 2
    end
    local high = math.min(length, low + step - 1)
    while low < high do
      local middle = math.floor((low + high) / 2)
      if holds(at(middle)) then high = middle else low = middle + 1 end
    end
    return low
  end
  local gone, later = 0, 0
  if length > 0 then
    gone = first(function(time) return time > now - period end)
    -- From the future: the clock has stepped back. They count as taken now.
    if at(-1) > now then later = length - first(function(time) return time > now end) end
  end
  local live = length - gone
  local free = math.max(0, limit - live)
  local function reset() return live > 0 and math.min(at(-1), now) + period - now or 0 end
  if mode == 'upto' then
    cost = math.max(1, math.min(cost, free))
  elseif mode == 'refund' then
    if live == 0 then return 0, limit, 0, 0, nil end
    if live <= cost then return 0, limit, 0, 0, false end
    return 0, math.max(0, limit - live + cost), 0, math.min(at(-1 - cost), now) + period - now, {gone = gone, later = later, cost = -cost}
  end
  if cost > free then
    -- Above the limit: never, as the caller knows.
    local wait = cost > limit and 0 or math.min(at(length + cost - limit - 1), now) + period - now
    return 0, free, wait, reset(),
      later > 0 and {gone = gone, later = later, cost = 0} or nil
  end
  return cost, free - cost, 0, period, {gone = gone, later = later, cost = cost}
end
local function log_store(key, state, reset)
  if not state then return call('DEL', key) end
  if state.later > 0 then call('LTRIM', key, 0, -1 - state.later) end
  local more = state.later + state.cost
  if more < 0 then call('LTRIM', key, 0, more - 1) end
  if state.gone > 0 then call('LTRIM', key, state.gone, -1) end
  while more > 0 do
    local times = {}
    for i = 1, math.min(more, 1000) do times[i] = now end
    call('RPUSH', key, unpack(times))
    more = more - #times
  end
  -- A millisecond later: see limiter_store.
  call('PEXPIRE', key, math.ceil(reset / 1000) + 1)
end
