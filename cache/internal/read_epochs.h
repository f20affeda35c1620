// Lets readers go without a lock while writers take things away: what was taken away is freed once
// every reader is gone that may still see it.
//
// Readers announce themselves in one of two counters of their CPU's stripe, so that readers on
// several CPUs share no cache line. Writers switch between the two: what was retired may be freed
// after both have been seen at zero. (As sleepable RCU does it: McKenney, "Sleepable RCU", 2006.)
#ifndef COORD_CACHE_INTERNAL_READ_EPOCHS_H_
#define COORD_CACHE_INTERNAL_READ_EPOCHS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace coord::internal {

class ReadEpochs {
 private:
  struct alignas(64) Stripe {
    std::array<std::atomic<std::uint32_t>, 2> readers = {};
  };

 public:
  struct Retired {
    void* what;
    void (*free)(void*);
  };

  ReadEpochs();
  // REQUIRES: no readers. Frees what is left.
  ~ReadEpochs();
  ReadEpochs(const ReadEpochs&) = delete;
  ReadEpochs& operator=(const ReadEpochs&) = delete;

  // A reader, while it lives. Thread-safe, never waits. What readers read that may be retired is
  // loaded, and by writers replaced, with sequential consistency.
  class Reader {
   public:
    explicit Reader(ReadEpochs& epochs)
        : stripe_(epochs.StripeHere()),
          counter_(epochs.stripes_[stripe_].readers[epochs.epoch_.load() & 1]) {
      counter_.fetch_add(1);
    }
    ~Reader() { counter_.fetch_sub(1); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    // Which stripe, below ReadEpochs::stripes().
    std::size_t stripe() const { return stripe_; }

   private:
    const std::size_t stripe_;
    std::atomic<std::uint32_t>& counter_;
  };

  std::size_t stripes() const { return stripes_.size(); }

  // The rest is for one writer at a time.

  // `retired` can no longer be reached by readers who come now. `bytes`: about how much it holds.
  void Retire(Retired retired, std::size_t bytes);
  // Whether enough was retired to make Collect worth its price.
  bool worth_collecting() const { return count_ >= kEnough || bytes_ >= kEnoughBytes; }
  bool empty() const { return count_ == 0; }
  // Adds to `out` what the caller shall free now, preferably after it has let go of its lock.
  // Never waits for readers.
  void Collect(std::vector<Retired>& out);

 private:
  static constexpr std::size_t kEnough = 32;
  static constexpr std::size_t kEnoughBytes = std::size_t{256} << 10;

  std::size_t StripeHere() const;
  bool Advance(std::vector<Retired>& out);

  std::vector<Stripe> stripes_;  // a power of two
  std::atomic<std::uint32_t> epoch_{0};
  std::array<std::vector<Retired>, 2> limbo_;  // by the epoch in which they were retired
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_READ_EPOCHS_H_
