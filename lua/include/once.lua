-- once: what operations with an id answered. Two hashes of ids, `recent` and `older`; to each id the fingerprint of what was asked for, a blank,
-- and the answer as text; '-' instead when it was declared void. Included by scripts that can be told an id.

-- The answer that was kept, or nil when this is the first time. An error for another operation, or a void one.
local function answered(recent, older, id, fingerprint)
  local kept = redis.call('HGET', recent, id) or redis.call('HGET', older, id)
  if not kept then return nil end
  if kept == '-' then return nil, {err = 'OPVOID this operation was declared void by a Resolve'} end
  if string.sub(kept, 1, #fingerprint + 1) ~= fingerprint .. ' ' then
    return nil, {err = 'OPMISUSE this operation id was used with other arguments'}
  end
  return string.sub(kept, #fingerprint + 2)
end

-- For `window` at least and twice that at most: `recent` takes answers for one window, and is `older` for the next.
local function keep(recent, older, id, window, text)
  local left = redis.call('PTTL', recent)
  if left >= 0 and left < tonumber(window) then
    redis.call('RENAME', recent, older)
    left = -2
  end
  redis.call('HSET', recent, id, text)
  if left == -2 then
    -- A value this long makes it a table from the start: to look through a list of hundreds would cost more than all the rest.
    redis.call('HSET', recent, '', string.rep(' ', 65))
    redis.call('PEXPIRE', recent, 2 * window)
  end
end
