-- json_text: what can be said of a JSON text at a glance. Needs `find`.
local kMaxDepth, kMaxBytes = 128, 16777216

-- Whether a text may spell plain letters as escapes.
local function respells(s)
  if not find(s, '\\u00', 1, true) then return false end
  for digit = 2, 7 do
    if find(s, '\\u00' .. digit, 1, true) then return true end
  end
  return false
end

-- Whether a text has control characters.
local function has_control(s)
  if #s < 400 then return find(s, '[%z\1-\31]') ~= nil end
  for code = 0, 31 do
    if find(s, string.char(code), 1, true) then return true end
  end
  return false
end
