#include "cache/http/internal/stored_response.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

constexpr char kMark = '\x01';
constexpr char kVersion = 1;
constexpr unsigned char kByCaller = 1;
// Far beyond any calendar, and small enough to be added to without a thought.
constexpr std::int64_t kMaxMilliseconds = std::int64_t{1} << 52;
constexpr std::uint64_t kMaxStatus = 999;

absl::Status DataLoss(std::string_view why) {
  return coord::internal::MakeStatus(absl::StatusCode::kDataLoss,
                                     coord::internal::StrCat("stored response: ", why));
}

// --- Writing ---

void AppendNumber(std::string& out, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) out.push_back(static_cast<char>((number & 0x7f) | 0x80));
  out.push_back(static_cast<char>(number));
}

void AppendText(std::string& out, std::string_view text) {
  AppendNumber(out, text.size());
  out += text;
}

// 0: the infinite past, 1: the infinite future, else milliseconds since 1970, those before it odd.
void AppendTime(std::string& out, absl::Time time) {
  if (time == absl::InfinitePast()) return AppendNumber(out, 0);
  if (time == absl::InfiniteFuture()) return AppendNumber(out, 1);
  const std::int64_t ms = std::clamp(absl::ToUnixMillis(time), -kMaxMilliseconds, kMaxMilliseconds);
  AppendNumber(out, 2 + (ms >= 0 ? 2 * static_cast<std::uint64_t>(ms)
                                 : 2 * static_cast<std::uint64_t>(-(ms + 1)) + 1));
}

void AppendAge(std::string& out, absl::Duration age) {
  const std::int64_t ms =
      std::clamp(absl::ToInt64Milliseconds(age), std::int64_t{0}, kMaxMilliseconds);
  AppendNumber(out, static_cast<std::uint64_t>(ms));
}

template <typename Pairs>
void AppendPairs(std::string& out, const Pairs& pairs) {
  AppendNumber(out, pairs.size());
  for (const auto& [name, value] : pairs) {
    AppendText(out, name);
    AppendText(out, value);
  }
}

// An upper bound, so that one allocation does.
std::size_t SizeOf(const StoredResponse& response) {
  constexpr std::size_t kNumber = 10;
  std::size_t size = 16 * kNumber + response.method.size() + response.url.size() +
                     response.series.size() + response.body.size();
  for (const auto& [name, value] : response.headers) {
    size += name.size() + value.size() + 2 * kNumber;
  }
  for (const auto& [name, value] : response.selecting) {
    size += name.size() + value.size() + 2 * kNumber;
  }
  return size;
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

  bool Text(std::string& out) {
    const std::optional<std::uint64_t> size = Number(rest_.size());
    if (!size || *size > rest_.size()) return false;
    out.assign(rest_.data(), static_cast<std::size_t>(*size));
    rest_.remove_prefix(out.size());
    return true;
  }

  bool Time(absl::Time& out) {
    constexpr auto kMost = static_cast<std::uint64_t>(kMaxMilliseconds);
    const std::optional<std::uint64_t> number = Number(2 + 2 * kMost);
    if (!number) return false;
    if (*number < 2) {
      out = *number == 0 ? absl::InfinitePast() : absl::InfiniteFuture();
      return true;
    }
    const std::uint64_t zigzag = *number - 2;
    const auto half = static_cast<std::int64_t>(zigzag / 2);
    out = absl::FromUnixMillis(zigzag % 2 == 0 ? half : -half - 1);
    return true;
  }

  bool Age(absl::Duration& out) {
    const std::optional<std::uint64_t> ms = Number(static_cast<std::uint64_t>(kMaxMilliseconds));
    if (!ms) return false;
    out = absl::Milliseconds(static_cast<std::int64_t>(*ms));
    return true;
  }

  // How many pairs there are, of which each takes two bytes at least.
  std::optional<std::uint64_t> Pairs() { return Number(rest_.size() / 2); }

 private:
  std::string_view rest_;
};

bool ReadHeaders(Reader& reader, Headers& headers) {
  const std::optional<std::uint64_t> count = reader.Pairs();
  if (!count) return false;
  for (std::uint64_t i = 0; i < *count; ++i) {
    std::string name;
    std::string value;
    if (!reader.Text(name) || !reader.Text(value)) return false;
    headers.Add(std::move(name), std::move(value));
  }
  return true;
}

bool ReadSelecting(Reader& reader, Selecting& selecting) {
  const std::optional<std::uint64_t> count = reader.Pairs();
  if (!count) return false;
  for (std::uint64_t i = 0; i < *count; ++i) {
    std::string name;
    std::string value;
    if (!reader.Text(name) || !reader.Text(value)) return false;
    selecting.emplace_back(std::move(name), std::move(value));
  }
  return true;
}

}  // namespace

std::string EncodeStored(const StoredResponse& response) {
  std::string out;
  out.reserve(SizeOf(response));
  out += {kMark, kVersion, static_cast<char>(response.by_caller ? kByCaller : 0)};
  AppendText(out, response.method);
  AppendText(out, response.url);
  AppendNumber(out, static_cast<std::uint64_t>(
                        std::clamp(response.status, 0, static_cast<int>(kMaxStatus))));
  AppendPairs(out, response.headers);
  AppendTime(out, response.created);
  AppendTime(out, response.received);
  AppendAge(out, response.initial_age);
  AppendTime(out, response.expires);
  AppendPairs(out, response.selecting);
  AppendText(out, response.series);
  AppendText(out, response.body);
  return out;
}

absl::StatusOr<StoredResponse> DecodeStored(std::string_view bytes) {
  Reader reader(bytes);
  if (reader.Byte() != static_cast<unsigned char>(kMark)) return DataLoss("it is none");
  const std::optional<unsigned char> version = reader.Byte();
  if (!version) return DataLoss("truncated");
  if (*version != static_cast<unsigned char>(kVersion)) {
    return DataLoss(coord::internal::StrCat("unknown version ", int{*version}));
  }
  const std::optional<unsigned char> flags = reader.Byte();
  if (!flags || *flags > kByCaller) return DataLoss("truncated, or an unknown flag");

  absl::StatusOr<StoredResponse> result(absl::in_place);
  StoredResponse& response = *result;
  response.by_caller = *flags == kByCaller;
  if (!reader.Text(response.method) || !reader.Text(response.url)) {
    return DataLoss("truncated in the request");
  }
  const std::optional<std::uint64_t> status = reader.Number(kMaxStatus);
  if (!status) return DataLoss("truncated, or no status");
  response.status = static_cast<int>(*status);
  if (!ReadHeaders(reader, response.headers)) return DataLoss("truncated in the header fields");
  if (!reader.Time(response.created) || !reader.Time(response.received) ||
      !reader.Age(response.initial_age) || !reader.Time(response.expires)) {
    return DataLoss("truncated, or times that cannot be");
  }
  if (!ReadSelecting(reader, response.selecting) || !reader.Text(response.series)) {
    return DataLoss("truncated in what selects it");
  }
  if (!reader.Text(response.body) || !reader.rest().empty()) {
    return DataLoss("truncated in the body, or with more behind it");
  }
  return result;
}

}  // namespace coord::http::internal
