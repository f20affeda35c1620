-- lock_queue: whose turn it is. Included by every script that can find a lock free or make it so.
--
-- Needs the locals call, lease, fence, queue, readers, and now = call('TIME').
--
-- A lease key's value is who holds: an owner id, or '%' and a token for a phase of readers. A '~' before it says that somebody waits,
-- '~~' that readers may be among them. A '~' before the fence's token says: there are waiters, or owners who have withdrawn.
-- An entry of the queue: "<dead after, ms> <ticket, us> <claim, ms> <kind> <owner> <channel>"; kinds: w writer, b barging writer,
-- r reader. Tickets are server times of arrival.
local keep = '172800000'
local parts = '^(%d+) (%d+) (%d+) (%a) (%S+) (.+)$'
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local us = now[1] .. string.sub('00000', #now[2]) .. now[2]

-- A message is a hint: where the user may not PUBLISH, the grant stands all the same.
-- A channel with a brace is a sharded one, in the keys' slot: in a Cluster its message stays on this node.
local function tell(channel, text) redis.pcall(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, text) end

-- Of a fence record, the lines of those who have withdrawn and must still be refused, and whether `who` is one of them.
local function remembered(record, who)
  local lines, refused = '', false
  for line, forgotten, owner in string.gmatch(record, '(\n(%d+) ([^\n]*))') do
    if tonumber(forgotten) > ms then
      lines = lines .. line
      refused = refused or owner == who
    end
  end
  return lines, refused
end

-- Above every token before, and no less than server time, so that it rises even where the fence was lost.
local function next_token(queued)
  local record = call('GET', fence) or ''
  local token, given = us, string.match(record, '%d+')
  if given and given >= us then token = string.format('%016.0f', given + 1) end
  local lines = remembered(record)
  local mark = (queued or lines ~= '') and '~' or ''
  call('SET', fence, mark .. token .. lines, 'PX', keep)
  return token
end

-- Begins a phase of readers with all that wait, and `first` if there is one, who asked for `ttl`. Its token, or nil without readers.
local function admit_readers(first, ttl)
  local token, longest, messages = nil, 0, {}
  local function admit(owner, claim)
    if not token then
      call('DEL', readers)
      token = next_token(true)
    end
    longest = math.max(longest, claim)
    call('ZADD', readers, ms + claim, owner)
  end
  for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
    local dead, _, claim, kind, owner, channel = string.match(entry, parts)
    if kind == 'r' then
      call('LREM', queue, 1, entry)
      if dead and tonumber(dead) >= ms then
        admit(owner, tonumber(claim))
        messages[#messages + 1] = {channel, owner .. ' ' .. token .. ' ' .. claim}
      end
    end
  end
  if first then admit(first, tonumber(ttl)) end
  if not token then return nil end
  call('SET', lease, '~%' .. token, 'PX', longest)
  call('PEXPIRE', readers, longest)
  for _, message in ipairs(messages) do tell(message[1], message[2]) end
  return token
end

-- Gives the lock, which is nobody's, to the first who waits and is alive: to a writer alone, or to all readers together. `mark` goes
-- before a writer's name. False: it stays free; a barging waiter at the head has been told so.
local function grant(readers_first, mark)
  if readers_first and admit_readers() then return true end
  local entry = call('LPOP', queue)
  while entry do
    local dead, _, claim, kind, owner, channel = string.match(entry, parts)
    if dead and tonumber(dead) >= ms then
      if kind == 'w' then
        local token = next_token(true)
        call('SET', lease, mark .. owner, 'PX', claim)
        tell(channel, owner .. ' ' .. token .. ' ' .. claim)
        return true
      end
      call('LPUSH', queue, entry)
      call('PEXPIRE', queue, 60000)
      if kind == 'r' then return admit_readers() ~= nil end
      tell(channel, owner .. ' 0 0')
      return false
    end
    entry = call('LPOP', queue)
  end
  return false
end

-- When nobody waits any more, the next acquire need not look closer.
local function calm()
  if call('EXISTS', queue) == 1 then return end
  local record = call('GET', fence)
  if record and string.byte(record) == 126 and remembered(record) == '' then
    call('SET', fence, string.match(record, '%d+'), 'PX', keep)
  end
end

-- A reader has left: the phase lasts as long as the longest lease of the others. False: there are none.
local function phase_goes_on()
  call('ZREMRANGEBYSCORE', readers, '-inf', ms)
  local longest = call('ZRANGE', readers, -1, -1, 'WITHSCORES')[2]
  if not longest then return false end
  local left = math.ceil(longest - ms)
  call('PEXPIRE', lease, left)
  call('PEXPIRE', readers, left)
  return true
end

-- The lease has just become nobody's.
local function pass_on(readers_first, mark)
  if not grant(readers_first, mark) then
    call('DEL', lease)
    calm()
  end
end
