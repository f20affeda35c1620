-- json_cas: compare values inside a JSON document, and if all are as expected replace values in it, byte for byte.
--
-- KEYS[1]  document key, a string of JSON
-- ARGV[1]  number of tests
-- ARGV[2..]  a test: JSON Pointer, expected JSON text or "" for absent. Then the sets: JSON Pointer, JSON text
-- Returns  1 when applied, -1 when there is no document,
--          {0, number of the first failed test, text of the value there or nil} when one does not match,
--          {-2, "json" | "duplicate" | "depth" | "exponent", byte} for what the stored document has at that byte,
--          {-2, "path" | "dash", number of the set or test}, {-2, "size", bytes of the result}; all but 1 wrote nothing
-- Retry    unsafe: a replay would find its own write and report a mismatch
local key, tests, sets = KEYS[1], tonumber(ARGV[1]), (#ARGV - 1) / 2 - tonumber(ARGV[1])
local find, match, sub, byte = string.find, string.match, string.sub, string.byte
local kMaxDepth, kMaxBytes = 128, 16777216

local text = redis.pcall('GET', key)
if type(text) == 'table' then return text end  -- WRONGTYPE, without the script's own position around it

-- Whether a text has neither escapes nor control characters. In such a text a string is all that stands between two
-- quotes, which %b"" finds at the speed of C, and a name can be looked for as it is.
local function is_plain(s)
  if find(s, '\\', 1, true) then return false end
  if #s < 400 then
    local _, last = find(s, '^%C*')
    return last == #s
  end
  for code = 0, 31 do
    if find(s, string.char(code), 1, true) then return false end
  end
  return true
end

local plain = text and is_plain(text)

-- Skips members from the one that begins at i, while they begin before `stop`, are easily recognised and have a comma
-- behind them. Only for plain text.
local function past_members(i, stop)
  while i < stop do
    local behind = match(text, '^%b"" ?: ?%b"" ?, *()', i) or match(text, '^%b"" ?: ?-?[1-9]%d* ?, *()', i)
    if not behind then
      local word
      word, behind = match(text, '^%b"" ?: ?(-?[%w.]+) ?, *()', i)
      if word ~= 'true' and word ~= 'false' and word ~= 'null' and word ~= '0' and
        not (word and (find(word, '^-?[1-9]%d*%.%d+$') or find(word, '^-?0%.%d+$'))) then break end
    end
    i = behind
  end
  return i
end

-- The quick path: the first and last byte of a scalar member of the outermost object, in a plain text where its name
-- stands once, and where all members before it are scalars: each is read, which proves the depth. In every other case
-- nothing, and the scanner decides.
local function quick(path)
  local name = plain and match(path, '^/([%w_. -]+)$')
  if not name then return end
  name = '"' .. name .. '"'
  local at = find(text, name, 2, true)
  if not at or find(text, name, at + 1, true) then return end
  if byte(text, 1) ~= 123 or past_members(2, at) ~= at then return end
  local i = at + #name
  local first, behind, rest = match(text, '^ ?: ?()%b""() ?[,}]()', i)
  if not first then first, behind, rest = match(text, '^ ?: ?()-?[1-9]%d*() ?[,}]()', i) end
  if not first then
    local word
    first, word, behind, rest = match(text, '^ ?: ?()(%w+)() ?[,}]()', i)
    if word ~= 'true' and word ~= 'false' and word ~= 'null' and word ~= '0' then return end
  end
  -- The value ends the document, or a name follows and a brace ends it.
  local ends = byte(text, rest - 1) == 125
  if ends and rest > #text or not ends and byte(text, #text) == 125 and find(text, '^ ?"', rest) then
    return first, behind - 1
  end
end

-- The scanner, for every JSON text and every path; made when it is needed.
local function scanner()
  local function refuse(reason, at) error({-2, reason, at}, 0) end

  -- The first byte at or after i that is not white space: where, and which. Past the end it is nil.
  local function space(i)
    local b = byte(text, i)
    if b and b <= 32 then
      i = match(text, '^[ \n\r\t]*()', i)
      b = byte(text, i)
    end
    return i, b
  end

  -- past_x(i): x begins at byte i; returns the byte behind it, or refuses.
  local function past_string(i)
    if plain then
      local _, last = find(text, '^%b""', i)
      if not last then refuse('json', i) end
      return last + 1, false
    end
    local _, last = find(text, '^"[^"\\%z\1-\31]*', i)
    if not last then refuse('json', i) end
    local escaped = false
    while true do
      i = last + 1
      local b = byte(text, i)
      if b == 34 then return i + 1, escaped end
      escaped = true
      _, last = find(text, '^\\["\\/bfnrt][^"\\%z\1-\31]*', i)
      if not last then _, last = find(text, '^\\u%x%x%x%x[^"\\%z\1-\31]*', i) end
      if not last then refuse('json', i) end
    end
  end

  local function past_number(i)
    local _, last = find(text, '^-?[1-9]%d*', i)
    if not last then _, last = find(text, '^-?0', i) end
    if not last then refuse('json', i) end
    local b = byte(text, last + 1)
    if b == 46 then
      _, last = find(text, '^%.%d+', last + 1)
      if not last then refuse('json', i) end
      b = byte(text, last + 1)
    end
    if b == 101 or b == 69 then
      _, last = find(text, '^[eE][+-]?%d+', last + 1)
      if not last then refuse('json', i) end
    end
    return last + 1
  end

  -- A member's name and colon: returns where its value begins, where the name ends, whether it has escapes.
  local function past_name(i)
    if plain then
      local behind, value = match(text, '^%b""() ?: ?()', i)
      if value and byte(text, value) ~= 32 then return value, behind, false end
    end
    local behind, escaped = past_string(i)
    local colon, b = space(behind)
    if b ~= 58 then refuse('json', colon) end
    return space(colon + 1), behind, escaped
  end

  -- Skips elements as past_members does members.
  local function past_elements(i)
    while true do
      local behind = match(text, '^%b"" ?, *()', i) or match(text, '^-?[1-9]%d* ?, *()', i)
      if not behind then return i end
      i = behind
    end
  end

  -- depth: how many containers stand around the value.
  local function past_value(i, depth)
    local b = byte(text, i)
    if b == 34 then return (past_string(i)) end
    if not b or b <= 57 then return past_number(i) end
    if b ~= 123 and b ~= 91 then
      return match(text, '^true()', i) or match(text, '^false()', i) or match(text, '^null()', i) or refuse('json', i)
    end
    if depth >= kMaxDepth then refuse('depth', i) end
    local closer = b + 2
    i, b = space(i + 1)
    if b == closer then return i + 1 end
    while true do
      if closer == 125 then
        if plain then i = past_members(i, math.huge) end
        i = past_name(i)
      elseif plain then
        i = past_elements(i)
      end
      i, b = space(past_value(i, depth + 1))
      if b == closer then return i + 1 end
      if b ~= 44 then refuse('json', i) end
      i = space(i + 1)
    end
  end

  local function utf8(code)
    local char, floor = string.char, math.floor
    if code < 128 then return char(code) end
    local last = char(128 + code % 64)
    if code < 2048 then return char(192 + floor(code / 64)) .. last end
    last = char(128 + floor(code / 64) % 64) .. last
    if code < 65536 then return char(224 + floor(code / 4096)) .. last end
    return char(240 + floor(code / 262144), 128 + floor(code / 4096) % 64) .. last
  end

  -- What the inside of a string means.
  local function unescape(s)
    local parts, i = {}, 1
    local short = {b = '\b', f = '\f', n = '\n', r = '\r', t = '\t'}
    while true do
      local a = find(s, '\\', i, true)
      if not a then break end
      parts[#parts + 1] = sub(s, i, a - 1)
      local c = sub(s, a + 1, a + 1)
      i = a + 2
      if c == 'u' then
        local code = tonumber(sub(s, i, i + 3), 16)
        i = i + 4
        if code >= 55296 and code < 56320 then
          local low = match(s, '^\\u([dD][c-fC-F]%x%x)', i)
          if low then
            code = 65536 + (code - 55296) * 1024 + tonumber(low, 16) - 56320
            i = i + 6
          end
        end
        c = utf8(code)
      else
        c = short[c] or c
      end
      parts[#parts + 1] = c
    end
    parts[#parts + 1] = sub(s, i)
    return table.concat(parts)
  end

  -- A number's exact value as text, the same for every spelling: sign, digits with no zero at either end, exponent.
  local function decimal(s, at)
    local sign, whole, fraction, exponent = match(s, '^(-?)(%d+)%.?(%d*)[eE]?([+-]?%d*)$')
    local digits = whole .. fraction
    local first = find(digits, '[1-9]')
    if not first then return '0' end
    local zeros = find(string.reverse(digits), '[1-9]') - 1
    local minus, power = match(exponent, '^[+]?(-?)0*(%d*)$')
    if #power > 15 then refuse('exponent', at) end
    power = tonumber(minus .. '0' .. power) - #fraction + zeros
    return string.format('%s%se%.0f', sign, sub(digits, first, #digits - zeros), power)
  end

  -- The value at i as something to compare, and the byte behind it: a container as a table, all else as a string.
  local function tree(i, depth)
    local b = byte(text, i)
    if b == 34 then
      local behind, escaped = past_string(i)
      local inner = sub(text, i, behind - 2)
      return escaped and unescape(inner) or inner, behind
    end
    if b ~= 123 and b ~= 91 then
      local behind = past_value(i, depth)
      local s = sub(text, i, behind - 1)
      return find(s, '%d') and decimal(s, i) or s, behind
    end
    if depth >= kMaxDepth then refuse('depth', i) end
    local node, closer = {object = b == 123, size = 0, at = {}}, b + 2
    i, b = space(i + 1)
    if b == closer then return node, i + 1 end
    while true do
      local name = node.size + 1
      if node.object then
        local value, behind, escaped = past_name(i)
        name = sub(text, i + 1, behind - 2)
        if escaped then name = unescape(name) end
        if node.at[name] then refuse('duplicate', i) end
        i = value
      end
      node.at[name], i = tree(i, depth + 1)
      node.size = node.size + 1
      i, b = space(i)
      if b == closer then return node, i + 1 end
      if b ~= 44 then refuse('json', i) end
      i = space(i + 1)
    end
  end

  local function same(x, y)
    if type(x) ~= 'table' or type(y) ~= 'table' then return x == y end
    if x.object ~= y.object or x.size ~= y.size then return false end
    for name, value in pairs(x.at) do
      if not same(value, y.at[name]) then return false end
    end
    return true
  end

  -- Looks for a member, from the one whose name begins at i on. Returns where its value begins, and whether the same
  -- name may come again; or nil, where the object's brace stands, and the byte behind its last value.
  local function scan(i, name, depth)
    local quoted = plain and not find(name, '["\\%z\1-\31]') and '"' .. name .. '"'
    local candidate = 0
    while true do
      local here
      if plain then
        repeat
          if candidate < i then candidate = quoted and find(text, quoted, i, true) or math.huge end
          local start = i
          i = past_members(i, candidate)
        until i == start or i == candidate
        here = i == candidate
      end
      local value, behind, escaped = past_name(i)
      if escaped then
        here = unescape(sub(text, i + 1, behind - 2)) == name
      elseif not plain then
        here = behind - i - 2 == #name and sub(text, i + 1, behind - 2) == name
      end
      if here then return value, not plain or find(text, quoted, value, true) ~= nil end
      local last, b = past_value(value, depth), nil
      i, b = space(last)
      if b == 125 then return nil, i, last end
      if b ~= 44 then refuse('json', i) end
      i = space(i + 1)
    end
  end

  -- Looks for an element of the array at i: returns where it begins, or nil and where the array's bracket stands.
  local function element(i, index, depth)
    local b
    i, b = space(i + 1)
    while b ~= 93 do
      if index == 0 then return i end
      i, b = space(past_value(i, depth))
      if b == 44 then
        i = space(i + 1)
      elseif b ~= 93 then
        refuse('json', i)
      end
      index = index - 1
    end
    return nil, i
  end

  -- Reads on behind a value to the document's end: names[n] is what was looked for in the n-th container around it,
  -- false for an array. None may come again.
  local function finish(i, names)
    local b
    for depth = #names, 1, -1 do
      local name = names[depth]
      i, b = space(i)
      while b ~= (name and 125 or 93) do
        if b ~= 44 then refuse('json', i) end
        i = space(i + 1)
        if name then
          local again, brace = scan(i, name, depth)
          if again then refuse('duplicate', again) end
          i = brace
        else
          i = past_value(i, depth)
        end
        i, b = space(i)
      end
      i = i + 1
    end
    i, b = space(i)
    if b then refuse('json', i) end
  end

  -- The same where no name can come again: looks at no more than what follows the value, and how the document ends.
  local function glance(i, names)
    local closer, b = names[#names] and 125 or 93, nil
    i, b = space(i)
    if b == 44 then
      i, b = space(i + 1)
      if not b or b == 93 or (closer == 125 and b ~= 34) then refuse('json', i) end
    elseif b ~= closer then
      refuse('json', i)
    elseif #names == 1 then
      i, b = space(i + 1)
      if b then refuse('json', i) end
    end
    local last = #text
    while find(' \n\r\t', sub(text, last, last), 1, true) do last = last - 1 end
    if byte(text, last) ~= (names[1] and 125 or 93) then refuse('json', last + 1) end
  end

  -- A name as JSON.
  local function quote(name)
    return '"' .. string.gsub(name, '[%z\1-\31"\\]', function(c)
      return (c == '"' or c == '\\') and '\\' .. c or string.format('\\u%04x', byte(c))
    end) .. '"'
  end

  -- The value at a path: its first and last byte. Or nil; and if its object is there, where it may be added, and the
  -- text that must stand before it.
  local function locate(path, number)
    local names, i = {}, space(1)
    local doubt, found, behind, place, comma, token = false, true, nil, nil, nil, nil
    for part, rest in string.gmatch(path, '/([^/]*)()') do
      local b, depth = byte(text, i), #names + 1
      token, found = part, nil
      if find(token, '~', 1, true) then token = string.gsub(string.gsub(token, '~1', '/'), '~0', '~') end
      if b == 123 then
        names[depth] = token
        local first, next_byte = space(i + 1)
        if next_byte == 125 then
          place, comma, behind = i + 1, '', first
        else
          local again
          found, again, place = scan(first, token, depth)
          if found then
            doubt = doubt or again
          else
            behind, comma = again, ','
          end
        end
        if rest <= #path then place = nil end
      elseif b == 91 then
        if token == '-' then refuse('dash', number) end
        if token == '0' or find(token, '^[1-9]%d*$') then
          names[depth] = false
          found, behind = element(i, tonumber(token), depth)
        end
      end
      if not found then
        behind = behind or past_value(i, depth - 1)
        break
      end
      i = found
    end
    behind = behind or past_value(i, #names)
    if doubt or not plain or #names == 0 then
      finish(behind, names)
    else
      glance(behind, names)
    end
    if found then return i, behind - 1 end
    return nil, place, comma and comma .. quote(token) .. ':'
  end

  -- Whether the value at i, and that of the text `expected`, are the same.
  local function matches(i, expected)
    local stored = tree(i, 0)
    local kept_text, kept_plain = text, plain
    text, plain = expected, false
    local wanted = tree((space(1)), 0)
    text, plain = kept_text, kept_plain
    return same(stored, wanted)
  end

  return locate, matches
end
local locate, matches

-- A document that is missing can be made: by a test that the whole is absent, and a set of the whole.
if not text then
  local absent = false
  for number = 1, tests do absent = absent or (ARGV[2 * number] == '' and ARGV[2 * number + 1] == '') end
  if not absent or ARGV[2 * tests + 2] ~= '' then return -1 end
end

local path, first, last, fine, before
for number = 1, tests do
  local expected = ARGV[2 * number + 1]
  path = ARGV[2 * number]
  if not text then
    first = nil
  else
    first, last = quick(path)
    if not first then
      if not locate then locate, matches = scanner() end
      fine, first, last = pcall(locate, path, number)
      if not fine then return first end
    end
  end
  if first then
    local current = sub(text, first, last)
    if current ~= expected then
      local equal = false
      if expected ~= '' then
        if not locate then locate, matches = scanner() end
        fine, equal = pcall(matches, first, expected)
        if not fine then return equal end
      end
      if not equal then return {0, number, current} end
    end
  elseif expected ~= '' then
    return {0, number, false}
  end
end

for number = 1, sets do
  local at = 2 * (tests + number)
  local value = ARGV[at + 1]
  if ARGV[at] == '' then
    text, plain = value, is_plain(value)
  else
    -- Where the last test has just found this path, it is still there.
    if number > 1 or ARGV[at] ~= path or not first then
      path = ARGV[at]
      first, last = quick(path)
      if not first then
        if not locate then locate, matches = scanner() end
        fine, first, last, before = pcall(locate, path, number)
        if not fine then return first end
      end
    end
    if first then
      if sets == 1 and #value == last - first + 1 then
        redis.call('SETRANGE', key, first - 1, value)
        return 1
      end
      text = sub(text, 1, first - 1) .. value .. sub(text, last + 1)
    elseif last then
      value = before .. value
      text = sub(text, 1, last - 1) .. value .. sub(text, last)
    else
      return {-2, 'path', number}
    end
    plain = plain and (number == sets or is_plain(value))
  end
end
if #text > kMaxBytes then return {-2, 'size', #text} end
redis.call('SET', key, text, 'KEEPTTL')
return 1
