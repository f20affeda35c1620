-- json_change: change a JSON document, byte for byte, if tests hold; all that json_cas does not know.
--
-- KEYS[1]  document key, a string of JSON
-- KEYS[2..n]  only with an operation id: recent and older answers, as in include/once.lua
-- ARGV[1]  number of tests
-- ARGV[2..n]  a test: JSON Pointer, and the JSON text expected there, '' for absent; before it '!' for not equal, '<' less, '>' greater, '=' the same
--             bytes. A test '|' begins another list of tests, of which one must hold. Then the changes: JSON Pointer (with '/-' at its end: behind an
--             array's last element) and JSON text, '' to remove what is there; or 'ttl' and milliseconds, 0 for none. With an operation id then the
--             id, the fingerprint of all this, and how long to keep the answer
-- Returns  1 when applied, -1 when there is no document,
--          {0, number of the first failed test of the first list, text of the value there or nil} when they do not hold; a repeated answer leaves out a
--          text above 1 KB, and says so by a fourth element,
--          {-2, 'json' | 'duplicate' | 'depth' | 'exponent', byte} for what the stored document has at that byte,
--          {-2, 'path' | 'dash', number of the change or test}, {-2, 'size', bytes of the result}; all but 1 wrote nothing
-- Retry    unsafe: a replay would find its own write and report a mismatch, but for one with an operation id
local find, match, sub, byte, gsub = string.find, string.match, string.sub, string.byte, string.gsub
local key = KEYS[1]
local text = redis.pcall('GET', key)
if type(text) == 'table' then return text end  -- WRONGTYPE, without the script's own position around it
-- include json_text
-- include json_scan

-- The text without the value that ends at `last` and begins, with its name, at `start`: the comma behind it goes too, or else the one before.
local function without(start, last)
  local behind, b = space(last + 1)
  if b == 44 then return sub(text, 1, start - 1) .. sub(text, (space(behind + 1))) end
  local at = start - 1
  while find(' \n\r\t', sub(text, at, at), 1, true) do at = at - 1 end
  if byte(text, at) == 44 then start = at end
  return sub(text, 1, start - 1) .. sub(text, last + 1)
end

-- Of two numbers as decimal() writes them, whether the first is less.
local function less(x, y)
  local function parts(s)
    local sign, digits, power = match(s, '^(-?)(%d+)e?(-?%d*)$')
    if power == '' then return 0, 0, '' end
    return sign == '' and 1 or -1, #digits + tonumber(power), digits
  end
  local x_sign, x_size, x_digits = parts(x)
  local y_sign, y_size, y_digits = parts(y)
  if x_sign ~= y_sign then return x_sign < y_sign end
  if x_sign < 0 then x_size, x_digits, y_size, y_digits = y_size, y_digits, x_size, x_digits end
  return x_size < y_size or x_size == y_size and x_digits < y_digits
end

-- Whether x comes before y, byte by byte: `<` would go by the server's locale.
local function before(x, y)
  local i, j = 1, #x + 1
  while i < j do
    local k = math.floor((i + j) / 2)
    if sub(x, i, k) == sub(y, i, k) then i = k + 1 else j = k end
  end
  return (byte(x, i) or -1) < (byte(y, i) or -1)
end

-- Whether x is less than y, as both() returns them with their first bytes: only of two numbers or two strings.
local function below(x, x_kind, y, y_kind)
  if x_kind == 34 or y_kind == 34 then return x_kind == y_kind and before(x, y) end
  -- All other values begin with what comes behind the digits.
  return x_kind <= 57 and y_kind <= 57 and less(x, y)
end

-- Whether the value at `first`, nil for none, is as a test wants it: a refusal, or nil and the answer.
local function holds(first, current, expected)
  local mark = match(expected, '^[!<=>]')
  local other = mark and sub(expected, 2) or expected
  if mark == '=' then return nil, current == other end
  if not first or other == '' then return nil, (not first == (other == '')) == (mark ~= '!') end
  if not mark and current == other then return nil, true end
  local refusal, x, x_kind, y, y_kind = scanned('both', first, other)
  if refusal then return refusal end
  if mark == '<' then return nil, below(x, x_kind, y, y_kind) end
  if mark == '>' then return nil, below(y, y_kind, x, x_kind) end
  return nil, same(x, y) == (mark ~= '!')
end

local function apply()
  local tests, changes = tonumber(ARGV[1]), (#ARGV - (KEYS[2] and 4 or 1)) / 2 - tonumber(ARGV[1])
  -- A document that is missing can be made: by a test that the whole is absent, and a set of the whole.
  if not text then
    local absent = false
    for number = 1, tests do absent = absent or (ARGV[2 * number] == '' and ARGV[2 * number + 1] == '') end
    if not absent or ARGV[2 * tests + 2] ~= '' then return -1 end
  end

  local refusal, first, last, start
  local failed, skipping
  for number = 1, tests do
    local expected = ARGV[2 * number + 1]
    if expected == '|' then
      if not skipping then break end
      skipping = false
    elseif not skipping then
      local path, right = ARGV[2 * number], nil
      first = nil
      if text and path == '' and (text == expected or byte(expected) == 61) then
        first, last = 1, #text
      elseif text then
        refusal, first, last = scanned('locate', path, number)
        if refusal then return refusal end
      end
      local current = first and sub(text, first, last)
      refusal, right = holds(first, current, expected)
      if refusal then return refusal end
      if not right then failed, skipping = failed or {0, number, current or false}, true end
    end
  end
  if skipping then return failed end

  local ttl, gone
  for number = 1, changes do
    local at = 2 * (tests + number)
    local value = ARGV[at + 1]
    if ARGV[at] == 'ttl' then
      ttl = value
    elseif ARGV[at] == '' then
      text, gone = value, value == ''
    else
      refusal, first, last, start = scanned('locate', ARGV[at], number, value ~= '')
      if refusal then return refusal end
      if value == '' then
        if first then text = without(start, last) end
      elseif first then
        text = sub(text, 1, first - 1) .. value .. sub(text, last + 1)
      elseif last then
        text = sub(text, 1, last - 1) .. start .. value .. sub(text, last)
      else
        return {-2, 'path', number}
      end
    end
  end
  if #text > kMaxBytes then return {-2, 'size', #text} end
  if gone then
    redis.call('DEL', key)
  elseif not ttl then
    redis.call('SET', key, text, 'KEEPTTL')
  elseif ttl == '0' then
    redis.call('SET', key, text)
  else
    redis.call('SET', key, text, 'PX', ttl)
  end
  return 1
end
if not KEYS[2] then return apply() end

-- include once
local recent, older, id, fingerprint, window = KEYS[2], KEYS[3], ARGV[#ARGV - 2], ARGV[#ARGV - 1], ARGV[#ARGV]
local answer, refusal = answered(recent, older, id, fingerprint)
if refusal then return refusal end
if answer then
  local number, sign, current = match(answer, '^0 (%d+) (.)(.*)$')
  if not number then return tonumber(answer) end
  return {0, tonumber(number), sign == '=' and current, sign == '~' and 1 or nil}
end
local result = apply()
if type(result) == 'number' then
  keep(recent, older, id, window, fingerprint .. ' ' .. result)
elseif result[1] == 0 then
  local current = result[3]
  current = not current and '-' or #current > 1024 and '~' or '=' .. current
  keep(recent, older, id, window, fingerprint .. ' 0 ' .. result[2] .. ' ' .. current)
end
return result
