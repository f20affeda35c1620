#include "tests/support/json_maker.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "coord/internal/json_text.h"

namespace coord::testing {

JsonNode JsonMaker::Document() {
  JsonNode node = Value(style_ == 0 ? 1 : 4, true);
  if (style_ == 3 && OneIn(8)) {
    for (int i = Below(110); i > 0; --i) {
      JsonNode outer;
      outer.kind = OneIn(2) ? JsonNode::kArray : JsonNode::kObject;
      if (outer.kind == JsonNode::kObject) outer.names = {Name(outer)};
      outer.children.push_back(std::move(node));
      node = std::move(outer);
    }
  }
  return node;
}

std::string JsonMaker::Render(JsonNode& node) {
  std::string out;
  Space(out);
  RenderValue(node, out);
  Space(out);
  return out;
}

JsonNode JsonMaker::Reordered(JsonNode node) {
  for (JsonNode& child : node.children) child = Reordered(std::move(child));
  if (node.kind == JsonNode::kObject) {
    for (std::size_t i = node.names.size(); i > 1; --i) {
      const auto j = static_cast<std::size_t>(Below(static_cast<int>(i)));
      std::swap(node.names[i - 1], node.names[j]);
      std::swap(node.children[i - 1], node.children[j]);
    }
  }
  return node;
}

JsonNode JsonMaker::Changed(JsonNode node) {
  if (!node.children.empty() && !OneIn(4)) {
    JsonNode& child = Pick(node.children);
    child = Changed(std::move(child));
    return node;
  }
  switch (node.kind) {
    case JsonNode::kWord:
      node.word = node.word == "null" ? "false" : "null";
      break;
    case JsonNode::kNumber:
      if (node.word == "0") {
        node.word = "1";
      } else if (OneIn(3)) {
        node.negative = !node.negative;
      } else if (OneIn(2)) {
        ++node.exponent;
      } else {
        node.word.back() = node.word.back() == '9' ? '8' : static_cast<char>(node.word.back() + 1);
      }
      break;
    case JsonNode::kString:
      node.word += OneIn(2) ? "x" : " ";
      break;
    case JsonNode::kArray:
    case JsonNode::kObject:
      if (node.children.empty()) {
        node.kind = node.kind == JsonNode::kArray ? JsonNode::kObject : JsonNode::kArray;
      } else {
        node.children.pop_back();
        if (node.kind == JsonNode::kObject) node.names.pop_back();
      }
      break;
  }
  return node;
}

void JsonMaker::Places(JsonNode& node, const std::string& pointer, std::vector<JsonPlace>& out) {
  out.push_back({pointer, &node});
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    Places(
        node.children[i],
        pointer + "/" + (node.kind == JsonNode::kArray ? std::to_string(i) : Token(node.names[i])),
        out);
  }
}

std::string JsonMaker::Token(std::string_view name) {
  std::string token;
  for (const char c : name) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

std::string JsonMaker::Name(const JsonNode& object) {
  static constexpr const char* kPlain[] = {"a",  "b", "state", "owner", "id", "tags",
                                           "at", "n", "x_1",   "x 1",   "1"};
  static constexpr const char* kAny[] = {"",
                                         "a/b",
                                         "m~n",
                                         "-",
                                         "0",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\\u0061",
                                         "\xc3\xa9",
                                         "\xf0\x9f\x98\x80",
                                         "a\":1,\"b",
                                         "\x7f",
                                         "{",
                                         "a]",
                                         "~1",
                                         "%b",
                                         "]}"};
  for (;;) {
    std::string name = style_ < 2 || OneIn(2) ? kPlain[Below(11)] : kAny[Below(18)];
    if (std::find(object.names.begin(), object.names.end(), name) == object.names.end())
      return name;
    name += std::to_string(Below(1000));
    if (std::find(object.names.begin(), object.names.end(), name) == object.names.end())
      return name;
  }
}

JsonNode JsonMaker::Value(int depth, bool container) {
  JsonNode node;
  const int kind = container ? (OneIn(6) ? 3 : 4) : Below(depth > 0 ? 8 : 6);
  if (kind == 3 || kind == 6) {
    node.kind = depth > 0 ? JsonNode::kArray : JsonNode::kNumber;
  } else if (kind == 4 || kind == 7) {
    node.kind = depth > 0 ? JsonNode::kObject : JsonNode::kString;
  } else {
    node.kind = kind == 0 ? JsonNode::kWord : kind < 3 ? JsonNode::kNumber : JsonNode::kString;
  }
  if (node.kind == JsonNode::kWord) {
    node.word = OneIn(3) ? "null" : OneIn(2) ? "true" : "false";
  } else if (node.kind == JsonNode::kNumber) {
    FillNumber(node);
  } else if (node.kind == JsonNode::kString) {
    for (int i = Below(OneIn(10) ? 40 : 6); i > 0; --i) node.word += Character();
  } else {
    for (int i = Below(style_ == 0 ? 12 : 6); i > 0; --i) {
      if (node.kind == JsonNode::kObject) node.names.push_back(Name(node));
      node.children.push_back(Value(depth - 1));
    }
  }
  return node;
}

void JsonMaker::FillNumber(JsonNode& node) {
  if (OneIn(6)) {
    node.word = "0";
    return;
  }
  static constexpr const char* kNotable[] = {"9007199254740992",     "9007199254740993",
                                             "9223372036854775807",  "9223372036854775808",
                                             "18446744073709551616", "1"};
  if (OneIn(4)) {
    node.word = kNotable[Below(6)];
  } else {
    node.word = std::to_string(random_() >> (random_() % 64));
    while (node.word.size() > 1 && node.word.back() == '0') node.word.pop_back();
    if (node.word == "0") node.word = "7";
    if (style_ == 3 && OneIn(20)) node.word += std::string(200, '3');
  }
  node.negative = OneIn(4);
  if (style_ > 0) node.exponent = OneIn(2) ? 0 : Below(9) - 4;
  if (style_ == 3 && OneIn(6)) node.exponent = Below(2000) - 1000;
}

std::string JsonMaker::Character() {
  static constexpr const char* kAny[] = {"\"",
                                         "\\",
                                         "/",
                                         "\n",
                                         "\x01",
                                         "\x7f",
                                         "\xc3\xa9",
                                         "{",
                                         "]",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "\xef\xbf\xbf",
                                         ",\"a\":",
                                         "\\u0061"};
  if (style_ < 2 || OneIn(2)) {
    static constexpr char kPlain[] = "abc 09:,{}[]/._-";
    return std::string(1, kPlain[Below(16)]);
  }
  return kAny[Below(14)];
}

void JsonMaker::Space(std::string& out) {
  if (style_ == 1 && OneIn(2)) out += OneIn(9) ? "   " : " ";
  if (style_ == 3) {
    for (int i = OneIn(3) ? Below(4) : 0; i > 0; --i) out += " \n\t\r"[Below(4)];
  }
}

void JsonMaker::RenderValue(JsonNode& node, std::string& out) {
  node.start = out.size();
  switch (node.kind) {
    case JsonNode::kWord:
      out += node.word;
      break;
    case JsonNode::kNumber:
      RenderNumber(node, out);
      break;
    case JsonNode::kString:
      RenderString(node.word, out);
      break;
    case JsonNode::kArray:
    case JsonNode::kObject: {
      const bool object = node.kind == JsonNode::kObject;
      out += object ? '{' : '[';
      node.tail = out.size();
      Space(out);
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        if (i > 0) {
          out += ',';
          Space(out);
        }
        if (object) {
          RenderString(node.names[i], out);
          Space(out);
          out += ':';
          Space(out);
        }
        RenderValue(node.children[i], out);
        node.tail = out.size();
        Space(out);
      }
      out += object ? '}' : ']';
      break;
    }
  }
  node.end = out.size();
}

void JsonMaker::RenderNumber(const JsonNode& node, std::string& out) {
  std::string digits = node.word;
  if (digits == "0") {
    static constexpr const char* kZeros[] = {"0", "-0", "0.0", "0e7", "-0.00E-12", "0.0e+1"};
    out += kZeros[style_ < 2 ? 0 : Below(6)];
    return;
  }
  if (node.negative) out += '-';
  int exponent = node.exponent;
  if (style_ < 2 || OneIn(2)) {
    if (exponent > 0 && exponent < 20) {
      digits.append(static_cast<std::size_t>(exponent), '0');
      exponent = 0;
    } else if (exponent < 0 && -exponent < static_cast<int>(digits.size())) {
      digits.insert(digits.size() - static_cast<std::size_t>(-exponent), ".");
      exponent = 0;
    }
  } else {
    for (int i = Below(3); i > 0; --i, --exponent) digits += '0';
    const int point = Below(static_cast<int>(digits.size()));
    if (point == 0) {
      exponent += static_cast<int>(digits.size());
      digits = "0." + digits;
    } else {
      exponent += static_cast<int>(digits.size()) - point;
      digits.insert(static_cast<std::size_t>(point), ".");
    }
  }
  out += digits;
  if (exponent != 0 || (style_ >= 2 && OneIn(5))) {
    out += OneIn(2) ? 'e' : 'E';
    if (exponent >= 0 && OneIn(2)) out += '+';
    if (exponent < 0) out += '-';
    if (OneIn(5)) out += "00";
    out += std::to_string(std::abs(exponent));
  }
}

void JsonMaker::RenderString(const std::string& text, std::string& out) {
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = internal::Utf8Length(std::string_view(text).substr(i));
    const std::string one = text.substr(i, length);
    i += length;
    const bool must = one == "\"" || one == "\\" || static_cast<unsigned char>(one[0]) < 0x20;
    if (!must && !(style_ >= 2 && OneIn(6))) {
      out += one;
      continue;
    }
    if (one == "/") {
      out += "\\/";
    } else if (one == "\n" && OneIn(2)) {
      out += "\\n";
    } else if (must && one[0] >= 0x20 && OneIn(2)) {
      out += "\\" + one;
    } else {
      AppendUnits(one, out);
    }
  }
  out += '"';
}

void JsonMaker::AppendUnits(const std::string& one, std::string& out) {
  unsigned code = static_cast<unsigned char>(one[0]);
  if (one.size() > 1) code &= 0xFFU >> (one.size() + 1);
  for (std::size_t i = 1; i < one.size(); ++i)
    code = code << 6 | (static_cast<unsigned char>(one[i]) & 0x3FU);
  const auto unit = [&](unsigned value) {
    const char* digits = OneIn(2) ? "0123456789abcdef" : "0123456789ABCDEF";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += digits[(value >> shift) & 15];
  };
  if (code < 0x10000) return unit(code);
  unit(0xD800 + ((code - 0x10000) >> 10));
  unit(0xDC00 + ((code - 0x10000) & 0x3FF));
}

}  // namespace coord::testing
