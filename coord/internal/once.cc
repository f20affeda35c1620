#include "coord/internal/once.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// The answers of one object lie in so many pairs of tables, so that none is large when it expires,
// all at once.
constexpr std::uint64_t kTables = 64;

// FNV-1a with 64 bits: it tells mistakes apart, not attackers.
std::uint64_t Hash(std::span<const std::string_view> texts) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3u; };
  for (std::string_view text : texts) {
    for (char c : text) mix(static_cast<unsigned char>(c));
    // So that "ab", "c" is not "a", "bc".
    for (std::size_t size = text.size(), i = 0; i < sizeof(std::uint64_t); ++i, size >>= 8) {
      mix(static_cast<unsigned char>(size & 0xff));
    }
  }
  return hash;
}

// All but the fingerprint.
absl::StatusOr<Once> Place(const Session& session, std::string_view what, std::string_view name,
                           const OperationId& id) {
  if (!id.valid()) {
    return InvalidArgument(StrCat("operation id ", Quoted(id.text()),
                                  " must be 1 to 64 of the characters A-Z a-z 0-9 - _"));
  }
  const std::string_view text = id.text();
  const std::uint64_t table = Hash({&text, 1}) % kTables;
  absl::StatusOr<std::string> recent = session.Key(what, name, StrCat("op:", table));
  if (!recent.ok()) return recent.status();
  std::string older = StrCat(*recent, ":older");
  return Once{*std::move(recent),
              std::move(older),
              id.text(),
              {},
              StrCat(CeilMilliseconds(session.options().operation_window))};
}

}  // namespace

std::string Fingerprint(char kind, std::span<const std::string_view> arguments) {
  constexpr std::string_view kDigits =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
  std::string text(1, kind);
  std::uint64_t hash = Hash(arguments);
  for (int i = 0; i < 11; ++i, hash >>= 6) text += kDigits[hash & 63];
  return text;
}

absl::StatusOr<std::optional<Once>> PrepareOnce(const Session& session, std::string_view what,
                                                std::string_view name,
                                                const std::optional<OperationId>& id, char kind,
                                                std::span<const std::string_view> arguments) {
  if (!id) return std::optional<Once>();
  absl::StatusOr<Once> once = Place(session, what, name, *id);
  if (!once.ok()) return once.status();
  once->fingerprint = Fingerprint(kind, arguments);
  return std::optional<Once>(*std::move(once));
}

absl::StatusOr<Reply> ExecuteOnce(Session& session, Request request,
                                  const std::optional<Once>& once, const CallOptions& options) {
  absl::StatusOr<CallLimits> limits = session.Limits(options);
  if (!limits.ok()) return limits.status();
  if (once) {
    // A repetition that arrived after the window would be applied anew.
    limits->deadline =
        std::min(limits->deadline, DeadlineAfter(session.options().operation_window / 2));
    request.set_retry_safe(true);
  }
  return session.Execute(std::move(request), *limits);
}

absl::StatusOr<std::optional<std::string>> ResolveOnce(Session& session, std::string_view what,
                                                       std::string_view name, const OperationId& id,
                                                       char kind, const CallOptions& options) {
  absl::StatusOr<Once> once = Place(session, what, name, id);
  if (!once.ok()) return once.status();
  absl::StatusOr<Reply> reply =
      session.Execute(Bind(kOperationResolve, {once->recent, once->older},
                           {once->id, std::string_view(&kind, 1), once->window_ms}),
                      options);
  if (!reply.ok()) return Annotate(reply.status(), StrCat(what, " ", Quoted(name)));
  if (reply->is_nil()) return std::optional<std::string>();
  return std::optional<std::string>(reply->text());
}

}  // namespace coord::internal
