-- json_cas: compare values inside a JSON document, and if all are as expected replace values in it, byte for byte.
--
-- KEYS[1]  document key, a string of JSON
-- ARGV[1]  number of tests
-- ARGV[2..n]  a test: JSON Pointer, expected JSON text or '' for absent. Then the sets: JSON Pointer, JSON text
-- Returns  1 when applied, -1 when there is no document,
--          {0, number of the first failed test, text of the value there or nil} when one does not match,
--          {-2, 'json' | 'duplicate' | 'depth' | 'exponent', byte} for what the stored document has at that byte,
--          {-2, 'path' | 'dash', number of the set or test}, {-2, 'size', bytes of the result}; all but 1 wrote nothing
-- Retry    unsafe: a replay would find its own write and report a mismatch
local find, match, sub, byte, gsub = string.find, string.match, string.sub, string.byte, string.gsub
local key = KEYS[1]
local text = redis.pcall('GET', key)
if type(text) == 'table' then return text end  -- WRONGTYPE, without the script's own position around it
-- include json_text

-- The quick path: the first and last byte of a scalar member of an object, where every name on the path stands once in the text. What is before it is
-- looked through, if these are few and simple members; or decoded, with a member of an improbable name behind it, and thrown away: both prove that it
-- is JSON, and where the member stands. In every other case nothing, and the scanner decides.
local function quick(path)
  local outer, name = nil, match(path, '^/([%w_. -]+)$')
  if not name then
    outer, name = match(path, '^(/[%w_. /-]*)/([%w_. -]+)$')
    if not name then return end
  end
  local quoted = '"' .. name .. '"'
  local at = find(text, quoted, 2, true)
  if not at or at > 1048576 or find(text, quoted, at + 1, true) then return end
  local escaped = find(text, '\\', 1, true)
  if escaped and (byte(text, at - 1) == 92 or respells(text)) then return end

  local i = byte(text) == 123 and at < 512 and not outer and 2
  while i and i < at do
    i = match(text, '^"[^"\\%z\1-\31]*" ?: ?"[^"\\%z\1-\31]*" ?, ?()', i) or match(text, '^"[^"\\%z\1-\31]*" ?: ?-?[1-9]%d* ?, ?()', i)
  end
  if i ~= at then
    local before = sub(text, 1, at - 1)
    -- What cjson takes and JSON does not, beside the numbers that it can be told to refuse: control characters in strings, "1." and "-.5".
    if has_control(before) and (escaped or find(gsub(before, '"[^"%z\1-\31]*"', ''), '"', 1, true)) then return end
    -- What strings say does not matter, unless it is what the path asks for.
    if not escaped and not outer then before = gsub(before, '%b""', '""') end
    local dot = find(before, '.', 1, true)
    while dot do
      local left, _, right = byte(before, dot - 1, dot + 1)
      if left == 45 or left and left >= 48 and left <= 57 and not (right and right >= 48 and right <= 57) then return end
      dot = find(before, '.', dot + 1, true)
    end
    local closers = '}'
    if outer then
      if find(before, '=here=', 1, true) then return end
      for token in string.gmatch(outer, '/([^/]*)') do
        token = '"' .. token .. '"'
        local place = find(before, token, 2, true)
        if not place or find(text, token, place + 1, true) then return end
        closers = closers .. '}'
      end
    end
    -- As it was found once this is over; nobody else runs meanwhile.
    local take_odd, go_deep = cjson.decode_invalid_numbers, cjson.decode_max_depth
    local odd, deep = take_odd(), go_deep()
    take_odd(false)
    go_deep(kMaxDepth)
    local fine, probe = pcall(cjson.decode, before .. '"=here=":0' .. closers)
    take_odd(odd)
    go_deep(deep)
    if not fine then return end
    if outer then
      for token in string.gmatch(outer, '/([^/]*)') do
        probe = probe[token]
        if type(probe) ~= 'table' then return end
      end
      if probe['=here='] ~= 0 then return end
    end
  end

  i = at + #quoted
  local first, behind, rest = match(text, '^[ \n\r\t]*:[ \n\r\t]*()"[^"\\%z\1-\31]*"()[ \n\r\t]*[,}]()', i)
  if not first then first, behind, rest = match(text, '^[ \n\r\t]*:[ \n\r\t]*()-?[1-9]%d*()[ \n\r\t]*[,}]()', i) end
  if not first then
    local word
    first, word, behind, rest = match(text, '^[ \n\r\t]*:[ \n\r\t]*()(%w+)()[ \n\r\t]*[,}]()', i)
    if word ~= 'true' and word ~= 'false' and word ~= 'null' and word ~= '0' then return end
  end
  -- A name follows, or an object's end; and the document ends with one.
  if byte(text, rest - 1) == 44 then
    if not find(text, '^[ \n\r\t]*"', rest) then return end
  elseif outer then
    if rest > #text then return end
  elseif not find(text, '^\n?$', rest) then
    return
  end
  if byte(text, -1) == 125 or find(text, '}\n$', -2) then return first, behind - 1 end
end

-- What most calls are: one test and one change of the same member.
local first, last, refusal, path, before
if text and #ARGV == 5 and ARGV[2] == ARGV[4] then
  first, last = quick(ARGV[2])
  if first then
    local current, expected, value = sub(text, first, last), ARGV[3], ARGV[5]
    if current == expected then
      local more = #value - #current
      if #text + more > kMaxBytes then return {-2, 'size', #text + more} end
      if more == 0 then
        redis.call('SETRANGE', key, first - 1, value)
      elseif more > 0 then
        redis.call('SETRANGE', key, first - 1, value .. sub(text, last + 1))
      else
        redis.call('SET', key, sub(text, 1, first - 1) .. value .. sub(text, last + 1), 'KEEPTTL')
      end
      return 1
    end
    -- Whether both are texts of different values for sure. All others are compared by what they mean.
    local x, y = byte(current), byte(expected) or 0
    if x == 34 then
      if y == 34 and byte(expected, -1) == 34 and not find(expected, '\\', 1, true) or y > 34 then return {0, 1, current} end
    elseif y == 0 or y == 34 or y > 90 then
      if y == 0 or y == 34 or x < 58 or y == 91 or y == 123 or find(expected, '^%l+$') then return {0, 1, current} end
    elseif y > 34 and (x > 57 or find(expected, '^-?[1-9]%d*$')) then
      return {0, 1, current}
    end
  end
end
-- include json_scan

local tests, sets = tonumber(ARGV[1]), (#ARGV - 1) / 2 - tonumber(ARGV[1])
-- A document that is missing can be made: by a test that the whole is absent, and a set of the whole.
if not text then
  local absent = false
  for number = 1, tests do absent = absent or (ARGV[2 * number] == '' and ARGV[2 * number + 1] == '') end
  if not absent or ARGV[2 * tests + 2] ~= '' then return -1 end
end

for number = 1, tests do
  local expected = ARGV[2 * number + 1]
  path, first = ARGV[2 * number], nil
  if text and path == '' and text == expected then
    first, last = 1, #text
  elseif text then
    first, last = quick(path)
    if not first then
      refusal, first, last = scanned('locate', path, number)
      if refusal then return refusal end
    end
  end
  if first then
    local current = sub(text, first, last)
    if current ~= expected then
      local mine, kind, wanted
      if expected ~= '' then
        refusal, mine, kind, wanted = scanned('both', first, expected)
        if refusal then return refusal end
      end
      if expected == '' or not same(mine, wanted) then return {0, number, current} end
    end
  elseif expected ~= '' then
    return {0, number, false}
  end
end

for number = 1, sets do
  local at = 2 * (tests + number)
  local value = ARGV[at + 1]
  if ARGV[at] == '' then
    text = value
  else
    -- Where the last test has just found this path, it is still there.
    if number > 1 or ARGV[at] ~= path or not first then
      path = ARGV[at]
      first, last = quick(path)
      if not first then
        refusal, first, last, before = scanned('locate', path, number, true)
        if refusal then return refusal end
      end
    end
    if first then
      text = sub(text, 1, first - 1) .. value .. sub(text, last + 1)
    elseif last then
      text = sub(text, 1, last - 1) .. before .. value .. sub(text, last)
    else
      return {-2, 'path', number}
    end
  end
end
if #text > kMaxBytes then return {-2, 'size', #text} end
redis.call('SET', key, text, 'KEEPTTL')
return 1
