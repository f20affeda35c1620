#include "coord/operation_id.h"

#include <algorithm>

#include "coord/internal/owner_id.h"

namespace coord {
namespace {

constexpr std::size_t kLongest = 64;

}  // namespace

OperationId OperationId::New() {
  std::string digits = internal::NewOwnerId({});
  if (!digits.empty()) digits.pop_back();  // the '@' before a label
  return OperationId(std::move(digits));
}

bool OperationId::valid() const {
  return !text_.empty() && text_.size() <= kLongest &&
         std::all_of(text_.begin(), text_.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

}  // namespace coord
