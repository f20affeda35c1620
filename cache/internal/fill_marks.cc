#include "cache/internal/fill_marks.h"

namespace coord::internal {

std::size_t FillMarks::IndexOf(std::string_view key) {
  return std::hash<std::string_view>()(key) % kShards;
}

FillMarks::Shard& FillMarks::ShardOf(std::string_view key) { return shards_[IndexOf(key)]; }

FillMarks::Mark FillMarks::Place(std::string_view key) {
  Shard& shard = ShardOf(key);
  const MutexLock lock(shard.mutex);
  Placed& placed = shard.placed[std::string(key)];
  if (placed.mark == 0) placed.mark = last_.fetch_add(1, std::memory_order_relaxed) + 1;
  ++placed.readers;
  return placed.mark;
}

bool FillMarks::TakeIfValid(std::string_view key, Mark mark, const std::function<void()>& insert) {
  Shard& shard = ShardOf(key);
  const MutexLock lock(shard.mutex);
  const auto found = shard.placed.find(std::string(key));
  if (found == shard.placed.end() || found->second.mark != mark) return false;
  if (--found->second.readers == 0) shard.placed.erase(found);
  insert();
  return true;
}

void FillMarks::TakeManyIfValid(std::span<const std::string> keys, std::span<const Mark> marks,
                                const InsertMany& insert) {
  std::array<bool, kShards> needed = {};
  for (const std::string& key : keys) needed[IndexOf(key)] = true;
  // Always in this order, so that two of these never wait for each other.
  for (std::size_t i = 0; i < kShards; ++i) {
    if (needed[i]) shards_[i].mutex.Lock();
  }
  std::vector<bool> valid(keys.size());
  bool any = false;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto& placed = ShardOf(keys[i]).placed;
    const auto found = placed.find(keys[i]);
    valid[i] = found != placed.end() && found->second.mark == marks[i];
    any |= valid[i];
    if (valid[i] && --found->second.readers == 0) placed.erase(found);
  }
  if (any) insert(valid);
  for (std::size_t i = 0; i < kShards; ++i) {
    if (needed[i]) shards_[i].mutex.Unlock();
  }
}

bool FillMarks::VoidAndInsert(std::string_view key, Mark mark,
                              const std::function<void()>& insert) {
  Shard& shard = ShardOf(key);
  const MutexLock lock(shard.mutex);
  const auto found = shard.placed.find(std::string(key));
  const bool valid = found != shard.placed.end() && found->second.mark == mark;
  if (found != shard.placed.end()) shard.placed.erase(found);
  if (valid) insert();
  return valid;
}

void FillMarks::Drop(std::string_view key, Mark mark) {
  TakeIfValid(key, mark, [] {});
}

void FillMarks::Void(std::string_view key) {
  Shard& shard = ShardOf(key);
  const MutexLock lock(shard.mutex);
  shard.placed.erase(std::string(key));
}

void FillMarks::VoidAll() {
  for (Shard& shard : shards_) {
    const MutexLock lock(shard.mutex);
    shard.placed.clear();
  }
}

std::size_t FillMarks::size() {
  std::size_t size = 0;
  for (Shard& shard : shards_) {
    const MutexLock lock(shard.mutex);
    size += shard.placed.size();
  }
  return size;
}

}  // namespace coord::internal
