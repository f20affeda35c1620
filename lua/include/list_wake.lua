-- list_wake: tells each who stands in `followers` that there is more. Whoever wants to be told again asks again: the caller takes the mark
-- off the record, without which nobody looks here. Needs the local `followers`, a key: for each who waits one entry,
--   1 byte  length of the message    2 bytes  length of the channel    13 bytes  until when it waits, ms    the message    the channel
-- A channel with a '{' is a sharded one.
-- By places, since to search through it costs as much as all of the rest.

-- A key of another type cannot be told from none: the push is done, and must not fail now.
local waiting, at, byte, sub = redis.pcall('GET', followers) or '', 1, string.byte, string.sub
while at < #waiting do
  local size, high, low = byte(waiting, at, at + 2)
  local channel = at + 16 + size
  local following = channel + high * 256 + low
  local its_channel = sub(waiting, channel, following - 1)
  local publish = string.find(its_channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
  redis.pcall(publish, its_channel, sub(waiting, at + 16, channel - 1))
  at = following
end
