#include "coord/lock/election_protocol.h"

#include <utility>

#include "coord/internal/deadline.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {

ElectionProtocol::ElectionProtocol(std::string name, Keys keys, std::string term_key,
                                   std::string observers_key)
    : MutexProtocol(std::move(name), std::move(keys), /*barging=*/false),
      term_key_(std::move(term_key)),
      observers_key_(std::move(observers_key)) {}

Request ElectionProtocol::Renew(std::string_view owner, absl::Duration ttl) const {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  return Bind(kElectionRenew, {keys().lease, keys().fence, term_key_}, {owner, ms});
}

Request ElectionProtocol::Release(std::string_view owner, const std::optional<Unused>&) const {
  return Bind(kElectionResign,
              {keys().lease, keys().fence, keys().queue, keys().readers, term_key_, observers_key_},
              {owner});
}

Request ElectionProtocol::Proclaim(std::string_view owner, std::uint64_t term,
                                   std::uint64_t revision, std::string_view value) const {
  const std::string term_text = StrCat(term);
  const std::string revision_text = StrCat(revision);
  return Bind(kElectionProclaim, {keys().lease, term_key_, observers_key_},
              {owner, term_text, revision_text, value});
}

Request ElectionProtocol::Observe() const {
  const std::string_view keys_of[] = {keys().lease, term_key_, observers_key_};
  return Request::Call(kElectionObserve, keys_of, {});
}

Request ElectionProtocol::Observe(std::string_view observer, std::string_view channel,
                                  absl::Duration interest) const {
  const std::string_view keys_of[] = {keys().lease, term_key_, observers_key_};
  const std::string ms = StrCat(CeilMilliseconds(interest));
  const std::string_view args[] = {observer, channel, ms};
  return Request::Call(kElectionObserve, keys_of, args);
}

}  // namespace coord::internal
