-- json_scan: reads JSON texts. Needs `find`, `match`, `sub`, `byte`, `gsub`, the functions of json_text, and
-- `text`, the one to read; writes nothing.
-- The scanner, for every JSON text and every path; made when it is needed.
local function scanner()
  -- The text as the scanner looks at it: every escape is filled with bytes that are nothing else, so a string is all that stands between two quotes.
  local shape, shaped
  -- Which names it has whose spelling says nothing: none, those with escapes, or all.
  local respelled, escaped_names
  -- Patterns: for members and elements that have a comma behind them; for a string, a name with its colon, white space.
  local member_string, member_integer, member_word, element_string, element_integer, string_pattern, name_pattern

  local function look()
    shape, shaped, respelled, escaped_names = text, text, false, false
    if find(text, '\\', 1, true) then
      local two = '\255\255'
      shape = gsub(text, '\\["\\/bfnrt]', two)
      shape = gsub(shape, '\\u%x%x%x%x', two .. two .. two)
      respelled = respells(text)
      -- Each byte is looked at once, also where a string is not closed.
      for last in string.gmatch(shape, '\255[^"]*()') do escaped_names = escaped_names or find(shape, '^"[ \n\r\t]*:', last) end
    end
    local rough = has_control(shape)
    local s, w = '%b""', rough and '[ \n\r\t]*' or ' *'
    if rough or find(shape, '\\', 1, true) then s = '"[^"\\%z\1-\31]*"' end
    string_pattern = '^' .. s
    name_pattern = '^' .. s .. '()' .. w .. ':' .. w .. '()'
    local member, comma = '^' .. s .. w .. ':' .. w, w .. ',' .. w .. '()'
    member_string, member_integer, member_word = member .. s .. comma, member .. '-?[1-9]%d*' .. comma, member .. '(-?[%w.]+)' .. comma
    element_string, element_integer = '^' .. s .. comma, '^-?[1-9]%d*' .. comma
  end

  local function refuse(reason, at) error({-2, reason, at}, 0) end
  local function bad(at) refuse('json', at) end

  -- The first byte at or after i that is not white space: where, and which. Past the end it is nil.
  local function space(i)
    local b = byte(shape, i)
    if b and b <= 32 then
      i = match(shape, '^[ \n\r\t]*()', i)
      b = byte(shape, i)
    end
    return i, b
  end

  -- past_x(i): x begins at byte i; returns the byte behind it, or refuses.
  local function past_string(i)
    local _, last = find(shape, string_pattern, i)
    return last and last + 1 or bad(i)
  end

  local function past_number(i)
    local _, last = find(shape, '^-?[1-9]%d*', i)
    if not last then _, last = find(shape, '^-?0', i) end
    if not last then bad(i) end
    local b = byte(shape, last + 1)
    if b == 46 then
      _, last = find(shape, '^%.%d+', last + 1)
      if not last then bad(i) end
      b = byte(shape, last + 1)
    end
    if b == 101 or b == 69 then
      _, last = find(shape, '^[eE][+-]?%d+', last + 1)
      if not last then bad(i) end
    end
    return last + 1
  end

  -- A member's name and colon: returns where its value begins, and where the name ends.
  local function past_name(i)
    local behind, value = match(shape, name_pattern, i)
    return value or refuse('json', i), behind
  end

  -- Skips members from the one that begins at i, while they begin before `stop`, are easily recognised and have a comma behind them.
  local function past_members(i, stop)
    while i < stop do
      local behind = match(shape, member_string, i) or match(shape, member_integer, i)
      if not behind then
        local word
        word, behind = match(shape, member_word, i)
        if word ~= 'true' and word ~= 'false' and word ~= 'null' and word ~= '0' and
          not (word and (find(word, '^-?[1-9]%d*%.%d+$') or find(word, '^-?0%.%d+$'))) then break end
      end
      i = behind
    end
    return i
  end

  -- depth: how many containers stand around the value.
  local function past_value(i, depth)
    local b = byte(shape, i)
    if b == 34 then return past_string(i) end
    if not b or b <= 57 then return past_number(i) end
    if b ~= 123 and b ~= 91 then
      return match(shape, '^true()', i) or match(shape, '^false()', i) or match(shape, '^null()', i) or bad(i)
    end
    if depth >= kMaxDepth then refuse('depth', i) end
    local closer = b + 2
    i, b = space(i + 1)
    if b == closer then return i + 1 end
    while true do
      if closer == 125 then
        i = past_name(past_members(i, math.huge))
      else
        local behind = i
        repeat
          i = behind
          behind = match(shape, element_string, i) or match(shape, element_integer, i)
        until not behind
      end
      i, b = space(past_value(i, depth + 1))
      if b == closer then return i + 1 end
      if b ~= 44 then bad(i) end
      i = space(i + 1)
    end
  end

  local function utf8(code)
    if code < 128 then return string.char(code) end
    local bytes, mark, room = '', 192, 32
    while true do
      bytes, code = string.char(128 + code % 64) .. bytes, math.floor(code / 64)
      if code < room then return string.char(mark + code) .. bytes end
      mark, room = mark + room, room / 2
    end
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

  -- The name or text of the string that begins at i and ends before `behind`.
  local function meaning(i, behind)
    local inner = sub(text, i + 1, behind - 2)
    return find(inner, '\\', 1, true) and unescape(inner) or inner
  end

  -- The value at i as something to compare, and the byte behind it: a container as a table, all else as a string.
  local function tree(i, depth)
    local b = byte(shape, i)
    if b == 34 then
      local behind = past_string(i)
      -- With the quote before it, so that it is no number and no word.
      return meaning(i - 1, behind), behind
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
        local value, behind = past_name(i)
        name = meaning(i, behind)
        if node.at[name] then refuse('duplicate', i) end
        i = value
      end
      node.at[name], i = tree(i, depth + 1)
      node.size = node.size + 1
      i, b = space(i)
      if b == closer then return node, i + 1 end
      if b ~= 44 then bad(i) end
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

  -- Looks for a member, from the one whose name begins at i on. Returns where its value begins, whether the same name may come again, and where the
  -- name begins; or nil, where the object's brace stands, and the byte behind its last value.
  local function scan(i, name, depth)
    local loose = escaped_names and (respelled or not find(name, '^[%w_. -]+$'))
    local quoted = not find(name, '["\\%z\1-\31]') and '"' .. name .. '"'
    local candidate = 0
    while true do
      local here
      if loose then
        local _, behind = past_name(i)
        here = meaning(i, behind) == name
      else
        repeat
          if candidate < i then candidate = quoted and find(shape, quoted, i, true) or math.huge end
          local start = i
          i = past_members(i, candidate)
        until i == start or i == candidate
        here = i == candidate
      end
      local value = past_name(i)
      if here then return value, loose or find(shape, quoted, value, true) ~= nil, i end
      local last, b = past_value(value, depth), nil
      i, b = space(last)
      if b == 125 then return nil, i, last end
      if b ~= 44 then bad(i) end
      i = space(i + 1)
    end
  end
  -- Looks for an element of the array at i: returns where it begins; or nil, where the array's bracket stands, and the byte behind its last value, if it
  -- has any.
  local function element(i, index, depth)
    local b, last
    i, b = space(i + 1)
    while b ~= 93 do
      if index == 0 then return i end
      last = past_value(i, depth)
      i, b = space(last)
      if b == 44 then
        i = space(i + 1)
        if byte(shape, i) == 93 then bad(i) end
      elseif b ~= 93 then
        bad(i)
      end
      index = index - 1
    end
    return nil, i, last
  end

  -- Reads on behind a value to the document's end: names[n] is what was looked for in the n-th container around it,
  -- false for an array. None may come again.
  local function finish(i, names)
    local b
    for depth = #names, 1, -1 do
      local name = names[depth]
      i, b = space(i)
      while b ~= (name and 125 or 93) do
        if b ~= 44 then bad(i) end
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
    if b then bad(i) end
  end

  -- The same where no name can come again: looks at no more than what follows the value, and how the document ends.
  local function glance(i, names)
    local closer, b = names[#names] and 125 or 93, nil
    i, b = space(i)
    if b == 44 then
      i, b = space(i + 1)
      if not b or b == 93 or (closer == 125 and b ~= 34) then bad(i) end
    elseif b ~= closer then
      bad(i)
    elseif #names == 1 then
      i, b = space(i + 1)
      if b then bad(i) end
    end
    local last = #shape
    while find(' \n\r\t', sub(shape, last, last), 1, true) do last = last - 1 end
    if byte(shape, last) ~= (names[1] and 125 or 93) then bad(last + 1) end
  end

  -- A name as JSON.
  local function quote(name)
    return '"' .. gsub(name, '[%z\1-\31"\\]', function(c)
      return (c == '"' or c == '\\') and '\\' .. c or string.format('\\u%04x', byte(c))
    end) .. '"'
  end

  -- The value at a path: its first and last byte, and where it or its name begins. Or nil; and if its container is there, where it may be added, and
  -- the text that must stand before it. `adding`: "-" stands for what comes behind an array's last element.
  local function locate(path, number, adding)
    if shaped ~= text then look() end
    local names, i = {}, space(1)
    local doubt, found, start, behind, place, before = false, true, nil, nil, nil, nil
    for token, rest in string.gmatch(path, '/([^/]*)()') do
      local b, depth = byte(shape, i), #names + 1
      found = nil
      if find(token, '~', 1, true) then token = gsub(gsub(token, '~1', '/'), '~0', '~') end
      if b == 123 then
        names[depth] = token
        local next_byte, again
        start, next_byte = space(i + 1)
        if next_byte == 125 then
          place, before, behind = i + 1, '', start
        else
          found, again, place = scan(start, token, depth)
          if found then
            doubt, start = doubt or again, place
          else
            behind, before = again, ','
          end
        end
        if before then before = before .. quote(token) .. ':' end
      elseif b == 91 then
        if token == '-' then
          if not adding then refuse('dash', number) end
          names[depth] = false
          found, behind, place = element(i, math.huge, depth)
          place, before = place or i + 1, place and ',' or ''
        elseif token == '0' or find(token, '^[1-9]%d*$') then
          names[depth] = false
          found, behind = element(i, tonumber(token), depth)
          start = found
        end
      end
      if not found then
        if rest <= #path then place = nil end
        behind = behind or past_value(i, depth - 1)
        break
      end
      i = found
    end
    behind = behind or past_value(i, #names)
    if doubt or #names == 0 then
      finish(behind, names)
    else
      glance(behind, names)
    end
    if found then return i, behind - 1, start end
    return nil, before and place, before
  end

  -- The value at i of the text, as tree() returns it, and its first byte; then the same of another text.
  local function both(i, other)
    if shaped ~= text then look() end
    local kept, mine, kind = text, tree(i, 0), byte(text, i)
    text = other
    look()
    local at, other_kind = space(1)
    local wanted = tree(at, 0)
    text = kept
    look()
    return mine, kind, wanted, other_kind
  end

  return locate, both, same, space
end
local locate, both, same, space

-- Returns the scanner's refusal, or nil and what locate() or both() returned.
local function scanned(which, ...)
  if not locate then locate, both, same, space = scanner() end
  local fine, a, b, c, d = pcall(which == 'both' and both or locate, ...)
  if fine then return nil, a, b, c, d end
  if type(a) ~= 'table' then error(a, 0) end
  return a
end
