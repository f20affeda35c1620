-- lock_wait: stand in the queue, or say that one still stands there. Included after lock_queue.

-- `value` is that of the lease, which another holds. `ticket` '0': never asked before; '1': perhaps asked before, nobody knows; else
-- the ticket of the place, whose entry was last seen to be dead after `dead`. A place that was lost (a grant that lapsed, a silence, a server
-- that forgot) is taken again in the order of tickets. Returns what the script shall.
local function wait(value, owner, claim, kind, channel, ticket, dead)
  local record = call('GET', fence) or '0000000000000000'
  local _, refused = remembered(record, owner)
  if refused then return {-1, 0} end
  local tail = ' ' .. claim .. ' ' .. kind .. ' ' .. owner .. ' ' .. channel
  local alive = string.format('%.0f', ms + claim)
  if ticket == '0' then
    ticket = us
    call('RPUSH', queue, alive .. ' ' .. ticket .. tail)
  else
    local at = call('LPOS', queue, dead .. ' ' .. ticket .. tail)
    local before
    if not at then
      for i, entry in ipairs(call('LRANGE', queue, 0, -1)) do
        local _, its_ticket, _, _, whose = string.match(entry, parts)
        if whose == owner then
          at, ticket = i - 1, its_ticket
          break
        end
        if not before and ticket ~= '1' and its_ticket > ticket then before = entry end
      end
    end
    if ticket == '1' then ticket = us end
    local entry = alive .. ' ' .. ticket .. tail
    if at then
      call('LSET', queue, at, entry)
    elseif before then
      call('LINSERT', queue, 'BEFORE', before, entry)
    else
      call('RPUSH', queue, entry)
    end
  end
  call('PEXPIRE', queue, 60000)
  local mark = kind == 'r' and '~~' or '~'
  if string.sub(value, 1, #mark) ~= mark then
    call('SET', lease, mark .. string.match(value, '[^~].*'), 'KEEPTTL')
  end
  if string.byte(record) ~= 126 then call('SET', fence, '~' .. record, 'PX', keep) end
  return {0, call('PTTL', lease), value, ticket, alive, string.match(record, '%d+')}
end
