-- election_tell: wakes those who watch an election. Included after lock_queue.
--
-- Needs the locals call, observers and ms. A member of `observers` is "<observer id> <channel>", its score until when it wants to be
-- told, in milliseconds. Channels as in lock_queue.
local function tell()
  call('ZREMRANGEBYSCORE', observers, '-inf', ms)
  for _, observer in ipairs(call('ZRANGE', observers, 0, -1)) do
    local id, channel = string.match(observer, '^(%S+) (.+)$')
    call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, id .. ' changed')
  end
end
