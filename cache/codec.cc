#include "cache/codec.h"

#include <iterator>
#include <optional>

#include "coord/internal/json_text.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using Json = nlohmann::json;

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    if (static_cast<unsigned char>(text.front()) < 0x80) {
      text.remove_prefix(1);
      continue;
    }
    const std::size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

constexpr std::string_view kNoUtf8 = "a text is not UTF-8";
constexpr std::string_view kTooDeep = "it is more than 128 deep";
static_assert(kMaxCodecDepth == 128);

// Why `json` would not come back as it is; empty: it would. Recurses no deeper than is allowed.
std::string_view WhyNot(const Json& json, bool text_format, std::size_t depth = 0) {
  switch (json.type()) {
    case Json::value_t::string:
      return IsUtf8(json.get_ref<const std::string&>()) ? "" : kNoUtf8;
    case Json::value_t::number_float:
      // nlohmann would write null.
      return text_format && !std::isfinite(json.get_ref<const double&>()) ? "a number is not finite"
                                                                          : "";
    case Json::value_t::binary:
      return text_format ? "JSON has no binary values" : "";
    case Json::value_t::discarded:
      return "a value was discarded by a parser";
    case Json::value_t::array:
      if (depth >= kMaxCodecDepth) return kTooDeep;
      for (const Json& element : json.get_ref<const Json::array_t&>()) {
        if (const std::string_view why = WhyNot(element, text_format, depth + 1); !why.empty()) {
          return why;
        }
      }
      return "";
    case Json::value_t::object:
      if (depth >= kMaxCodecDepth) return kTooDeep;
      for (const auto& [name, member] : json.get_ref<const Json::object_t&>()) {
        if (!IsUtf8(name)) return kNoUtf8;
        if (const std::string_view why = WhyNot(member, text_format, depth + 1); !why.empty()) {
          return why;
        }
      }
      return "";
    default:
      return "";
  }
}

// What must be known before the parser looks: how deep it goes, since what comes of it is copied
// and compared by recursion, and whether there is a NUL, which the parser takes for the end. Where
// the text is no JSON the count may be wrong, from that place on only.
std::string_view WhyNotParse(std::string_view text) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    switch (text[at]) {
      case '\0':
        return "there is a NUL in it";
      case '"':
        quoted = !quoted;
        break;
      case '\\':
        ++at;  // an escaped NUL is refused by the parser
        break;
      case '[':
      case '{':
        if (!quoted && ++depth > kMaxCodecDepth) return kTooDeep;
        break;
      case ']':
      case '}':
        if (!quoted && depth > 0) --depth;
        break;
      default:
        break;
    }
  }
  return "";
}

// Walks over one value of MessagePack without recursion, so that the parser, which recurses and
// believes what lengths are declared, sees only what is whole and not too deep.
class MessagePackWalk {
 public:
  explicit MessagePackWalk(std::string_view bytes) : rest_(bytes) {}

  // Empty: one value, whole, with nothing behind it.
  std::string_view WhyNot() {
    // For each open container how many values are missing, the names of a map counted too.
    std::vector<std::uint64_t> open = {1};
    while (!open.empty()) {
      if (open.back() == 0) {
        open.pop_back();
        continue;
      }
      --open.back();
      const std::string_view before = rest_;
      const std::optional<std::uint64_t> inside = Value();
      if (!inside) return "truncated, or no MessagePack";
      if (text_) {
        // What stands behind the text's head is the text.
        if (!IsUtf8(before.substr(before.size() - rest_.size() - text_size_, text_size_))) {
          return kNoUtf8;
        }
      }
      // Each takes a byte at least.
      if (*inside > rest_.size()) return "it declares more than is there";
      if (!container_) continue;
      if (open.size() > kMaxCodecDepth) return kTooDeep;
      open.push_back(*inside);
    }
    return rest_.empty() ? "" : "there is more behind it";
  }

 private:
  std::optional<std::uint64_t> Number(std::size_t bytes) {
    if (rest_.size() < bytes) return std::nullopt;
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      number = number << 8 | static_cast<unsigned char>(rest_[i]);
    }
    rest_.remove_prefix(bytes);
    return number;
  }

  std::optional<std::uint64_t> Skip(std::optional<std::uint64_t> size) {
    if (!size || *size > rest_.size()) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(*size));
    return 0;
  }

  std::optional<std::uint64_t> Text(std::optional<std::uint64_t> size) {
    if (!Skip(size)) return std::nullopt;
    text_ = true;
    text_size_ = static_cast<std::size_t>(*size);
    return 0;
  }

  std::optional<std::uint64_t> Container(std::optional<std::uint64_t> count, std::uint64_t each) {
    container_ = true;
    if (!count) return std::nullopt;
    return *count * each;  // at most 2^33
  }

  // One head with its bytes; how many values are inside.
  std::optional<std::uint64_t> Value() {
    container_ = false;
    text_ = false;
    const std::optional<std::uint64_t> head = Number(1);
    if (!head) return std::nullopt;
    const auto byte = static_cast<unsigned>(*head);
    if (byte <= 0x7f || byte >= 0xe0) return 0;
    if (byte <= 0x8f) return Container(byte & 0x0f, 2);
    if (byte <= 0x9f) return Container(byte & 0x0f, 1);
    if (byte <= 0xbf) return Text(byte & 0x1f);
    switch (byte) {
      case 0xc0:
      case 0xc2:
      case 0xc3:
        return 0;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return Skip(Number(std::size_t{1} << (byte - 0xc4)));
      case 0xc7:
      case 0xc8:
      case 0xc9: {
        const std::optional<std::uint64_t> size = Number(std::size_t{1} << (byte - 0xc7));
        if (!size) return std::nullopt;
        return Skip(*size + 1);  // and the type
      }
      case 0xca:
        return Skip(4);
      case 0xcb:
        return Skip(8);
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return Skip(std::uint64_t{1} << (byte - 0xcc));
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return Skip(std::uint64_t{1} << (byte - 0xd0));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return Skip((std::uint64_t{1} << (byte - 0xd4)) + 1);
      case 0xd9:
      case 0xda:
      case 0xdb:
        return Text(Number(std::size_t{1} << (byte - 0xd9)));
      case 0xdc:
      case 0xdd:
        return Container(Number(std::size_t{2} << (byte - 0xdc)), 1);
      case 0xde:
      case 0xdf:
        return Container(Number(std::size_t{2} << (byte - 0xde)), 2);
      default:
        return std::nullopt;
    }
  }

  std::string_view rest_;
  // Of the value that was read last.
  bool container_ = false;
  bool text_ = false;
  std::size_t text_size_ = 0;
};

}  // namespace

absl::Status NotEncodable(std::string_view why) {
  return InvalidArgument(StrCat("value cannot be encoded: ", why));
}

absl::Status NotDecodable(std::string_view why) {
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat("value cannot be decoded: ", why));
}

// Both write beside `out` first where a failure could leave half a value there.
absl::Status EncodeJson(const Json& json, std::string& out) {
  if (const std::string_view why = WhyNot(json, true); !why.empty()) return NotEncodable(why);
  const std::string text = json.dump();
  if (text.size() > kMaxCodecBytes) return NotEncodable("it is too large");
  out += text;
  return absl::OkStatus();
}

absl::Status EncodeMessagePack(const Json& json, std::string& out) {
  if (const std::string_view why = WhyNot(json, false); !why.empty()) return NotEncodable(why);
  std::string bytes;
  Json::to_msgpack(json, bytes);
  if (bytes.size() > kMaxCodecBytes) return NotEncodable("it is too large");
  out += bytes;
  return absl::OkStatus();
}

absl::StatusOr<Json> DecodeJson(std::string_view bytes) {
  if (bytes.size() > kMaxCodecBytes) return NotDecodable("it is too large");
  // nlohmann skips it; other readers, and our scripts, do not.
  if (bytes.substr(0, 3) == "\xef\xbb\xbf") return NotDecodable("it begins with a byte order mark");
  if (const std::string_view why = WhyNotParse(bytes); !why.empty()) return NotDecodable(why);
  try {
    Json json = Json::parse(bytes, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return NotDecodable("it is no JSON");
    return json;
  } catch (const std::exception& error) {
    return NotDecodable(error.what());
  }
}

absl::StatusOr<Json> DecodeMessagePack(std::string_view bytes) {
  if (bytes.size() > kMaxCodecBytes) return NotDecodable("it is too large");
  if (const std::string_view why = MessagePackWalk(bytes).WhyNot(); !why.empty()) {
    return NotDecodable(why);
  }
  try {
    Json json = Json::from_msgpack(bytes, /*strict=*/true, /*allow_exceptions=*/false);
    if (json.is_discarded()) return NotDecodable("MessagePack that JSON has no word for");
    return json;
  } catch (const std::exception& error) {
    return NotDecodable(error.what());
  }
}

bool IsJsonNull(std::string_view bytes) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t begin = bytes.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return false;
  return bytes.substr(begin, bytes.find_last_not_of(kBlank) - begin + 1) == "null";
}

}  // namespace coord::internal
