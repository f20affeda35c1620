-- limiter_bucket: a token bucket. Needs `call` and `now`; writes nothing. Returns what limiter_gcra says.
--
-- `rate` permits come in `unit` microseconds, in lowest terms. The level is counted in parts of a permit, `unit` to one, so that `rate` of
-- them come every microsecond and nothing is ever rounded but the answers. The state is "level unit since". Of a level in other units, left
-- by another limit, the whole permits count.
local function bucket(key, rate, unit, cost, mode, burst)
  local full = burst * unit
  local level, stepped = full, false
  local value = call('GET', key)
  if value then
    local stored, parts, since = string.match(value, '^(%d+) ([1-9]%d*) (%d+)$')
    if not stored then return end
    level, parts, since = tonumber(stored), tonumber(parts), tonumber(since)
    if parts ~= unit then level = math.floor(level / parts) * unit end
    if since > now then
      -- The clock has stepped back: nothing has come since.
      stepped = true
    else
      level = level + (now - since) * rate
    end
    if level > full then level = full end
  end
  if mode == 'upto' then
    cost = math.max(1, math.min(cost, math.floor(level / unit)))
  elseif mode == 'refund' then
    if level == full then return 0, burst, 0, 0, nil end
    cost = -cost
  end
  local after = level - cost * unit
  if after < 0 then
    return 0, level / unit, math.ceil(-after / rate), math.ceil((full - level) / rate),
      stepped and string.format('%.0f %.0f %.0f', level, unit, now) or nil
  end
  if cost < 0 then
    if after >= full then return 0, burst, 0, 0, false end
    cost = 0
  end
  return cost, after / unit, 0, math.ceil((full - after) / rate), string.format('%.0f %.0f %.0f', after, unit, now)
end
