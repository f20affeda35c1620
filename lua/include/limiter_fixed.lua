-- limiter_fixed: so many in each window of the server's clock. Needs `call` and `now`; writes nothing. Returns what limiter_gcra says.
--
-- Windows begin at whole multiples of `period` since 1970. The state is "start count".
local function fixed(key, limit, period, cost, mode)
  local start = now - now % period
  local count, stepped = 0, false
  local value = call('GET', key)
  if value then
    local began, counted = string.match(value, '^(%d+) (%d+)$')
    if not began then return end
    began = tonumber(began)
    -- One that begins later than this: the clock has stepped back, or the window was a shorter one. It counts as this one.
    if began >= start then count = tonumber(counted) end
    stepped = began > now
  end
  local left, free = start + period - now, math.max(0, limit - count)
  if mode == 'upto' then
    cost = math.max(1, math.min(cost, free))
  elseif mode == 'refund' then
    if count == 0 then return 0, limit, 0, 0, nil end
    if count <= cost then return 0, limit, 0, 0, false end
    count = count - cost
    return 0, math.max(0, limit - count), 0, left, string.format('%.0f %.0f', start, count)
  end
  if cost > free then
    return 0, free, left, count > 0 and left or 0, stepped and string.format('%.0f %.0f', start, count) or nil
  end
  return cost, free - cost, 0, left, string.format('%.0f %.0f', start, count + cost)
end
