-- mutex_release: give the lease back, if this owner has it, and hand it to who waits first.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  owner id
-- ARGV[2..n]  only to give back reserved tokens: the last one used, the last one reserved
-- Returns  1 when released, 0 when this owner does not have it
-- Retry    unsafe: a repetition cannot tell "released before" from "lost"; mutex_withdraw is the repetition
local call = redis.call
local value = call('GET', KEYS[1])
if value == ARGV[1] and not ARGV[2] then
  call('DEL', KEYS[1])
  return 1
end
local owner = ARGV[1]
if value == '~' .. owner and not ARGV[2] then
  -- What pass_on does below, for the case that is most frequent by far: a writer is first, and alive; nobody has withdrawn lately; the clock
  -- goes on.
  local entry = call('LPOP', KEYS[3])
  local dead, claim, heir, channel = string.match(entry or '', '^(%d+) %d+ (%d+) w (%S+) (.+)$')
  local now = call('TIME')
  local us = now[2]
  if #us < 6 then us = string.sub('00000', #us) .. us end
  if dead and dead >= now[1] .. string.sub(us, 1, 3) then
    local token = '~' .. now[1] .. us
    local last = call('SET', KEYS[2], token, 'PX', '172800000', 'GET')
    if not last or #last == 17 and last < token then
      call('SET', KEYS[1], '~' .. heir, 'PX', claim)
      redis.pcall('PUBLISH', channel, heir .. ' ' .. string.sub(token, 2) .. ' ' .. claim)
      return 1
    end
    call('SET', KEYS[2], last, 'PX', '172800000')
  end
  if entry then call('LPUSH', KEYS[3], entry) end
end
local readers_wait = value == '~~' .. owner
if not readers_wait and value ~= '~' .. owner and value ~= owner then return 0 end

local lease, fence, queue, readers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = call('TIME')
-- include lock_queue
if ARGV[3] then
  local record = call('GET', fence) or ''
  if string.match(record, '%d+') == ARGV[3] then
    -- A full server lets a script write whose first write frees something.
    call('DEL', lease)
    call('SET', fence, (string.gsub(record, '%d+', ARGV[2], 1)), 'PX', keep)
  end
end
pass_on(readers_wait, '~')
return 1
