#include "cache/signing.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::MakeStatus;
using internal::StrCat;

constexpr std::size_t kMaxId = 32;
constexpr std::size_t kMinSecret = 16;
constexpr std::size_t kCode = 32;

using Code = std::array<unsigned char, kCode>;

struct FreeContext {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MAC_CTX, FreeContext>;

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// HMAC-SHA256 with the secret in it, to be copied for each code: finding the algorithm and taking
// the secret in costs more than a short text's code.
Context MakeContext(const std::string& secret) {
  EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  if (mac == nullptr) return nullptr;
  Context context(EVP_MAC_CTX_new(mac));
  EVP_MAC_free(mac);  // the context has its own reference
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  if (context == nullptr ||
      EVP_MAC_init(context.get(), Bytes(secret), secret.size(), params) != 1) {
    return nullptr;
  }
  return context;
}

// Length first, so that no two lists of pieces are the same bytes.
bool Update(EVP_MAC_CTX* context, std::string_view piece) {
  unsigned char size[8];
  for (int i = 0; i < 8; ++i) {
    size[i] = static_cast<unsigned char>(static_cast<std::uint64_t>(piece.size()) >> (8 * i));
  }
  return EVP_MAC_update(context, size, sizeof(size)) == 1 &&
         EVP_MAC_update(context, Bytes(piece), piece.size()) == 1;
}

absl::Status CheckKeys(const std::vector<SigningKey>& keys) {
  if (keys.empty()) return InvalidArgument("there is no key to sign with");
  for (auto key = keys.begin(); key != keys.end(); ++key) {
    if (key->id.empty() || key->id.size() > kMaxId) {
      return InvalidArgument(
          StrCat("a signing key's id has ", key->id.size(), " bytes; it must have 1 to ", kMaxId));
    }
    if (key->secret.size() < kMinSecret) {
      return InvalidArgument(StrCat("the secret of signing key ", internal::Quoted(key->id),
                                    " has fewer than ", kMinSecret, " bytes"));
    }
    const bool twice = std::any_of(keys.begin(), key,
                                   [&](const SigningKey& other) { return other.id == key->id; });
    if (twice) {
      return InvalidArgument(StrCat("there are two signing keys ", internal::Quoted(key->id)));
    }
  }
  return absl::OkStatus();
}

absl::Status DataLoss(std::string_view why) {
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat("signature: ", why));
}

}  // namespace

struct Signer::Keys {
  struct Key {
    std::string id;
    Context context;

    std::optional<Code> CodeOf(std::string_view key, std::string_view text) const {
      const Context copy(EVP_MAC_CTX_dup(context.get()));
      Code code;
      std::size_t size = 0;
      // The id too, so that it cannot be changed into that of another key with the same secret.
      if (copy == nullptr || !Update(copy.get(), key) || !Update(copy.get(), text) ||
          !Update(copy.get(), id) ||
          EVP_MAC_final(copy.get(), code.data(), &size, code.size()) != 1 || size != kCode) {
        return std::nullopt;
      }
      return code;
    }
  };

  absl::Status status;
  std::vector<Key> keys;
};

Signer::Signer(std::vector<SigningKey> keys) {
  auto made = std::make_shared<Keys>();
  made->status = CheckKeys(keys);
  for (SigningKey& key : keys) {
    if (made->status.ok()) {
      made->keys.push_back({key.id, MakeContext(key.secret)});
      if (made->keys.back().context == nullptr) {
        made->status = MakeStatus(absl::StatusCode::kInternal, "OpenSSL has no HMAC-SHA256");
      }
    }
    OPENSSL_cleanse(key.secret.data(), key.secret.size());
  }
  keys_ = std::move(made);
}

absl::Status Signer::Check() const { return keys_->status; }

// Behind the text: id, code, one byte with the id's length. From behind, so that the text need not
// say how long it is.
absl::Status Signer::Sign(std::string_view key, std::string& text) const {
  if (!keys_->status.ok()) return keys_->status;
  const Keys::Key& signing = keys_->keys.front();
  const std::optional<Code> code = signing.CodeOf(key, text);
  if (!code) return MakeStatus(absl::StatusCode::kInternal, "OpenSSL failed to sign");
  text += signing.id;
  text.append(reinterpret_cast<const char*>(code->data()), code->size());
  text.push_back(static_cast<char>(signing.id.size()));
  return absl::OkStatus();
}

absl::Status Signer::Verify(std::string_view key, std::string& text) const {
  if (!keys_->status.ok()) return keys_->status;
  std::string_view rest = text;
  if (rest.empty()) return DataLoss("missing");
  const std::size_t id_size = static_cast<unsigned char>(rest.back());
  rest.remove_suffix(1);
  if (id_size == 0 || id_size > kMaxId || rest.size() < kCode + id_size) return DataLoss("missing");
  const std::string_view code = rest.substr(rest.size() - kCode);
  rest.remove_suffix(kCode);
  const std::string_view id = rest.substr(rest.size() - id_size);
  rest.remove_suffix(id_size);
  const auto found = std::find_if(keys_->keys.begin(), keys_->keys.end(),
                                  [&](const Keys::Key& known) { return known.id == id; });
  if (found == keys_->keys.end()) return DataLoss("by a key that is not known");
  const std::optional<Code> expected = found->CodeOf(key, rest);
  if (!expected) return MakeStatus(absl::StatusCode::kInternal, "OpenSSL failed to verify");
  if (CRYPTO_memcmp(expected->data(), code.data(), kCode) != 0) return DataLoss("wrong");
  text.resize(rest.size());
  return absl::OkStatus();
}

}  // namespace coord
