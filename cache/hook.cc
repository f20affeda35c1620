#include "cache/hook.h"

namespace coord {

std::string_view ToString(CacheOperation operation) {
  switch (operation) {
    case CacheOperation::kGet:
      return "get";
    case CacheOperation::kGetMany:
      return "get_many";
    case CacheOperation::kSet:
      return "set";
    case CacheOperation::kSetMany:
      return "set_many";
    case CacheOperation::kDelete:
      return "delete";
    case CacheOperation::kDeleteMany:
      return "delete_many";
    case CacheOperation::kExists:
      return "exists";
    case CacheOperation::kTtl:
      return "ttl";
    case CacheOperation::kExpire:
      return "expire";
    case CacheOperation::kScan:
      return "scan";
    case CacheOperation::kDeletePattern:
      return "delete_pattern";
    case CacheOperation::kClear:
      return "clear";
    case CacheOperation::kGetOrCompute:
      return "get_or_compute";
    case CacheOperation::kCompute:
      return "compute";
    case CacheOperation::kInvalidateTags:
      return "invalidate_tags";
    case CacheOperation::kIncrement:
      return "increment";
    case CacheOperation::kHash:
      return "hash";
    case CacheOperation::kList:
      return "list";
    case CacheOperation::kCompareAndSet:
      return "compare_and_set";
    case CacheOperation::kRecover:
      return "recover";
    case CacheOperation::kPing:
      return "ping";
  }
  return "unknown";
}

}  // namespace coord
