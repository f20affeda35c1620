#include "cache/internal/envelope.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr char kMark = '\0';
constexpr char kVersion = 1;

enum Flag : unsigned {
  kNull = 0x01,
  kCompressed = 0x02,
  kStaleFor = 0x04,
  kCost = 0x08,
  kTtl = 0x10,
  kTags = 0x20,
  kSigned = 0x40,
  kAllFlags = 0x7f,
};

absl::Status DataLoss(std::string_view why) {
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat("stored value: ", why));
}

absl::Status Truncated() { return DataLoss("truncated"); }

// --- Writing ---

void AppendNumber(std::string& out, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) out.push_back(static_cast<char>((number & 0x7f) | 0x80));
  out.push_back(static_cast<char>(number));
}

void AppendText(std::string& out, std::string_view text) {
  AppendNumber(out, text.size());
  out += text;
}

absl::Status CheckLength(std::string_view what, absl::Duration length) {
  if (length >= absl::ZeroDuration() && length <= kMaxDataTtl) return absl::OkStatus();
  return InvalidArgument(StrCat(what, " is ", ToText(length), "; it must be 0 to ten years"));
}

absl::Status CheckTags(const EnvelopeFields& fields) {
  if (fields.tags.size() > kMaxTags) {
    return InvalidArgument(
        StrCat("there are ", fields.tags.size(), " tags; a value has at most ", kMaxTags));
  }
  absl::flat_hash_set<std::string_view> seen;
  for (const auto& [tag, generation] : fields.tags) {
    if (tag.empty() || tag.size() > kMaxTagBytes) {
      return InvalidArgument(StrCat("tag ", Quoted(tag), " has ", tag.size(),
                                    " bytes; it must have 1 to ", kMaxTagBytes));
    }
    if (generation.size() > kMaxGenerationBytes) {
      return InvalidArgument(StrCat("the generation of tag ", Quoted(tag), " has ",
                                    generation.size(), " bytes; it may have ",
                                    kMaxGenerationBytes));
    }
    if (!seen.insert(tag).second) {
      return InvalidArgument(StrCat("tag ", Quoted(tag), " stands there twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFields(std::string_view payload, const EnvelopeFields& fields) {
  if (fields.null && !payload.empty()) return InvalidArgument("a null has a payload");
  absl::Status status = CheckLength("stale_for", fields.stale_for);
  status.Update(CheckLength("cost", fields.cost));
  status.Update(CheckLength("ttl", fields.ttl));
  status.Update(CheckTags(fields));
  return status;
}

std::uint64_t Milliseconds(absl::Duration length) {
  return static_cast<std::uint64_t>(
      absl::ToInt64Milliseconds(absl::Ceil(length, absl::Milliseconds(1))));
}

unsigned FlagsOf(const EnvelopeFields& fields, bool compressed, bool is_signed) {
  unsigned flags = 0;
  if (fields.null) flags |= kNull;
  if (compressed) flags |= kCompressed;
  if (fields.stale_for != absl::ZeroDuration()) flags |= kStaleFor;
  if (fields.cost != absl::ZeroDuration()) flags |= kCost;
  if (fields.ttl != absl::ZeroDuration()) flags |= kTtl;
  if (!fields.tags.empty()) flags |= kTags;
  if (is_signed) flags |= kSigned;
  return flags;
}

// The compressed payload, or nothing where that is not worth while.
absl::StatusOr<std::optional<std::string>> CompressIfWorth(std::string_view payload,
                                                           const Compression& compression) {
  if (compression.algorithm == Compression::Algorithm::kNone || payload.empty() ||
      payload.size() < compression.threshold) {
    return std::nullopt;
  }
  absl::StatusOr<std::string> compressed =
      Compress(payload, compression.algorithm, compression.level);
  if (!compressed.ok()) return compressed.status();
  if (compressed->size() > payload.size() - (payload.size() + 7) / 8) return std::nullopt;
  return *std::move(compressed);
}

// --- Reading ---

// Takes what is next off the front; nothing when it is not there or is not as it would be written.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::string_view rest() const { return rest_; }

  std::optional<unsigned char> Byte() {
    if (rest_.empty()) return std::nullopt;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }

  // At most `most`.
  std::optional<std::uint64_t> Number(std::uint64_t most) {
    std::uint64_t number = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
      const std::optional<unsigned char> byte = Byte();
      if (!byte) return std::nullopt;
      number |= std::uint64_t{*byte & 0x7fu} << shift;
      if ((*byte & 0x80u) != 0) continue;
      // A last group of zero says that it could have been shorter.
      if ((*byte == 0 && shift > 0) || number > most) return std::nullopt;
      return number;
    }
    return std::nullopt;
  }

  std::optional<std::string_view> Text(std::size_t most) {
    const std::optional<std::uint64_t> size = Number(std::min(most, rest_.size()));
    if (!size || *size > rest_.size()) return std::nullopt;
    const std::string_view text = rest_.substr(0, static_cast<std::size_t>(*size));
    rest_.remove_prefix(text.size());
    return text;
  }

 private:
  std::string_view rest_;
};

absl::Status ReadLength(Reader& reader, std::string_view what, absl::Duration& length) {
  const std::optional<std::uint64_t> number =
      reader.Number(static_cast<std::uint64_t>(absl::ToInt64Milliseconds(kMaxDataTtl)));
  if (!number || *number == 0) return DataLoss(StrCat("truncated, or a wrong ", what));
  length = absl::Milliseconds(static_cast<std::int64_t>(*number));
  return absl::OkStatus();
}

absl::Status ReadTags(Reader& reader, EnvelopeFields& fields) {
  const std::optional<std::uint64_t> count = reader.Number(kMaxTags);
  if (!count || *count == 0) return DataLoss("truncated, or a wrong number of tags");
  absl::flat_hash_set<std::string_view> seen;
  for (std::uint64_t i = 0; i < *count; ++i) {
    const std::optional<std::string_view> tag = reader.Text(kMaxTagBytes);
    if (!tag || tag->empty()) return DataLoss("truncated, or a wrong tag");
    const std::optional<std::string_view> generation = reader.Text(kMaxGenerationBytes);
    if (!generation) return DataLoss("truncated, or a wrong generation of a tag");
    if (!seen.insert(*tag).second) return DataLoss("a tag stands there twice");
    fields.tags.emplace_back(*tag, *generation);
  }
  return absl::OkStatus();
}

struct Inflation {
  Compression::Algorithm algorithm = Compression::Algorithm::kNone;
  std::size_t size = 0;
};

absl::Status ReadInflation(Reader& reader, std::size_t max_bytes, Inflation& inflation) {
  const std::optional<unsigned char> algorithm = reader.Byte();
  if (!algorithm) return Truncated();
  if (*algorithm == 1) {
    inflation.algorithm = Compression::Algorithm::kZstd;
  } else if (*algorithm == 2) {
    inflation.algorithm = Compression::Algorithm::kLz4;
  } else {
    return DataLoss("unknown compression");
  }
  const std::optional<std::uint64_t> size = reader.Number(max_bytes);
  if (!size) return DataLoss(StrCat("truncated, or inflates to more than ", max_bytes, " bytes"));
  inflation.size = static_cast<std::size_t>(*size);
  return absl::OkStatus();
}

absl::Status ReadFields(Reader& reader, unsigned flags, std::size_t max_bytes,
                        EnvelopeFields& fields, Inflation& inflation) {
  fields.null = (flags & kNull) != 0;
  absl::Status status;
  if ((flags & kCompressed) != 0) status = ReadInflation(reader, max_bytes, inflation);
  if (status.ok() && (flags & kStaleFor) != 0) {
    status = ReadLength(reader, "stale_for", fields.stale_for);
  }
  if (status.ok() && (flags & kCost) != 0) status = ReadLength(reader, "cost", fields.cost);
  if (status.ok() && (flags & kTtl) != 0) status = ReadLength(reader, "ttl", fields.ttl);
  if (status.ok() && (flags & kTags) != 0) status = ReadTags(reader, fields);
  return status;
}

}  // namespace

absl::StatusOr<std::string> Seal(std::string_view key, std::string_view payload,
                                 const EnvelopeFields& fields, const SealOptions& options) {
  if (absl::Status status = CheckFields(payload, fields); !status.ok()) return status;
  const absl::StatusOr<std::optional<std::string>> compressed =
      CompressIfWorth(payload, options.compression);
  if (!compressed.ok()) return compressed.status();
  const std::string_view body = *compressed ? std::string_view(**compressed) : payload;

  const unsigned flags = FlagsOf(fields, compressed->has_value(), options.signer != nullptr);
  if (flags == 0 && (payload.empty() || payload.front() != kMark)) return std::string(payload);

  std::string out;
  out.reserve(body.size() + 64);
  out += {kMark, kVersion, static_cast<char>(flags)};
  if (*compressed) {
    out.push_back(options.compression.algorithm == Compression::Algorithm::kZstd ? 1 : 2);
    AppendNumber(out, payload.size());
  }
  if ((flags & kStaleFor) != 0) AppendNumber(out, Milliseconds(fields.stale_for));
  if ((flags & kCost) != 0) AppendNumber(out, Milliseconds(fields.cost));
  if ((flags & kTtl) != 0) AppendNumber(out, Milliseconds(fields.ttl));
  if ((flags & kTags) != 0) {
    AppendNumber(out, fields.tags.size());
    for (const auto& [tag, generation] : fields.tags) {
      AppendText(out, tag);
      AppendText(out, generation);
    }
  }
  out += body;
  if (options.signer != nullptr) {
    if (absl::Status status = options.signer->Sign(key, out); !status.ok()) return status;
  }
  return out;
}

absl::StatusOr<Opened> Open(std::string_view key, std::string stored, const OpenOptions& options) {
  if (stored.size() > options.max_bytes) {
    return DataLoss(
        StrCat("it has ", stored.size(), " bytes; at most ", options.max_bytes, " are taken"));
  }
  if (options.signer != nullptr) {
    if (absl::Status status = options.signer->Verify(key, stored); !status.ok()) return status;
  }
  Opened opened;
  if (stored.empty() || stored.front() != kMark) {
    if (options.signer != nullptr) return DataLoss("not signed");
    opened.payload = std::move(stored);
    return opened;
  }

  Reader reader(stored);
  reader.Byte();
  const std::optional<unsigned char> version = reader.Byte();
  const std::optional<unsigned char> flags = reader.Byte();
  if (!version || !flags) return Truncated();
  if (*version != kVersion) return DataLoss(StrCat("unknown version ", int{*version}));
  if ((*flags & ~unsigned{kAllFlags}) != 0) return DataLoss("unknown flag");
  if ((*flags & kSigned) != 0 && options.signer == nullptr) {
    return DataLoss("signed, and there is no key to verify it with");
  }
  if ((*flags & kSigned) == 0 && options.signer != nullptr) return DataLoss("not signed");

  Inflation inflation;
  absl::Status status = ReadFields(reader, *flags, options.max_bytes, opened.fields, inflation);
  if (!status.ok()) return status;
  if (opened.fields.null) {
    if ((*flags & kCompressed) != 0 || !reader.rest().empty()) {
      return DataLoss("a null has a payload");
    }
    return opened;
  }
  if ((*flags & kCompressed) != 0) {
    absl::StatusOr<std::string> inflated =
        Decompress(reader.rest(), inflation.algorithm, inflation.size, options.max_bytes);
    if (!inflated.ok()) return inflated.status();
    opened.payload = *std::move(inflated);
    return opened;
  }
  stored.erase(0, stored.size() - reader.rest().size());
  opened.payload = std::move(stored);
  return opened;
}

}  // namespace coord::internal
