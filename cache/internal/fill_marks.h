// What keeps a slow reader from filling a cache with a value that a writer has replaced meanwhile.
//
// Before a reader asks where the truth is, it places a mark under the key. Whoever writes the key
// voids its mark, before and after. The reader's value goes in only while its mark is still there:
//
//   const FillMarks::Mark mark = marks.Place(key);
//   value = below.Get(key);
//   marks.TakeIfValid(key, mark, [&] { above.Set(key, value); });
#ifndef COORD_CACHE_INTERNAL_FILL_MARKS_H_
#define COORD_CACHE_INTERNAL_FILL_MARKS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// Thread-safe. Takes as much room as there are readers between Place and TakeIfValid.
class FillMarks {
 public:
  using Mark = std::uint64_t;  // never zero

  // Of several readers of one key each has the same mark, until it is voided. Each mark that was
  // placed is taken or dropped once.
  Mark Place(std::string_view key);
  // Whether the mark was still there; then `insert` has been called, during which no Void of this
  // key returns. It must not call this object, and should be short.
  bool TakeIfValid(std::string_view key, Mark mark, const std::function<void()>& insert);
  // The same for many, of which a key may come twice: `insert` learns which are still valid, and is
  // called where any is.
  using InsertMany = std::function<void(const std::vector<bool>& valid)>;
  void TakeManyIfValid(std::span<const std::string> keys, std::span<const Mark> marks,
                       const InsertMany& insert) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  // For a writer, which has placed a mark before it wrote: voids what is there under the key, also
  // for readers that have the same mark, and inserts what was written unless another writer of the
  // key has been here since. Then the two may have ended in either order, and neither may insert.
  bool VoidAndInsert(std::string_view key, Mark mark, const std::function<void()>& insert);
  // The reader has nothing to insert.
  void Drop(std::string_view key, Mark mark);
  // Afterwards nobody inserts what was read before under this key, or under any.
  void Void(std::string_view key);
  void VoidAll();

  std::size_t size();  // marks that are placed and not voided

 private:
  struct Placed {
    Mark mark = 0;
    std::uint32_t readers = 0;
  };
  struct alignas(64) Shard {
    Mutex mutex;
    absl::flat_hash_map<std::string, Placed> placed ABSL_GUARDED_BY(mutex);
  };
  static constexpr std::size_t kShards = 16;

  static std::size_t IndexOf(std::string_view key);
  Shard& ShardOf(std::string_view key);

  std::atomic<Mark> last_ = 0;
  std::array<Shard, kShards> shards_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_FILL_MARKS_H_
