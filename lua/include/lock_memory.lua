-- lock_memory: these owners wait no more, and for so many milliseconds shall have nothing either. Included after lock_queue.
local function dismiss(owners, memory)
  local among = {}
  for _, who in ipairs(owners) do among[who] = true end
  for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
    if among[string.match(entry, '^%S+ %S+ %S+ %S+ (%S+) ')] then call('LREM', queue, 1, entry) end
  end
  if memory == '0' then return end
  local record = call('GET', fence) or '0000000000000000'
  local lines = ''
  for line, forgotten, who in string.gmatch(record, '(\n(%d+) ([^\n]*))') do
    if tonumber(forgotten) > ms and not among[who] then lines = lines .. line end
  end
  for _, who in ipairs(owners) do lines = lines .. string.format('\n%.0f %s', ms + memory, who) end
  call('SET', fence, '~' .. string.match(record, '%d+') .. lines, 'PX', keep)
end
