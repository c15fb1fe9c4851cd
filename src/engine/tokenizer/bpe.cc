#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <string>

#include "engine/tokenizer/byte_unicode.h"

namespace tandem::tokenizer {
namespace {

// Pieces beyond this are cut, so that 32 bits index a piece's bytes. No model has a context that
// one such piece would fit into.
constexpr size_t kMaxChunkBytes = size_t{1} << 30;

uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

constexpr uint64_t kHashSeed = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio: no structure
constexpr uint64_t kHashMultiplier = 0xD6E8FEB86659FD93;

uint64_t HashBytes(std::string_view bytes) {
  uint64_t hash = kHashSeed ^ bytes.size();
  while (bytes.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    hash = Mix(hash ^ word, kHashMultiplier);
    bytes.remove_prefix(8);
  }
  uint64_t word = 0;
  if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
  return Mix(hash ^ word, kHashMultiplier);
}

uint64_t HashPair(int32_t left, int32_t right) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  return Mix(pair ^ kHashSeed, kHashMultiplier);
}

size_t TableSize(size_t n_entries) { return std::bit_ceil(n_entries * 2 + 2); }

// Text to id of the ordinary tokens, in their byte-to-unicode spelling. Only needed while merges
// are resolved.
class TokenIndex {
 public:
  explicit TokenIndex(const FlatStrings& tokens)
      : tokens_(tokens), slots_(TableSize(tokens.size())) {}

  // The id of `text`, or nothing.
  std::optional<int32_t> Find(std::string_view text) const {
    const Slot& slot = slots_[SlotOf(text, HashBytes(text))];
    if (slot.id == kEmptySlot) return std::nullopt;
    return static_cast<int32_t>(slot.id);
  }

  // The token that already has this text; nothing when `id` was inserted.
  std::optional<int32_t> Insert(int32_t id) {
    const std::string_view text = tokens_[static_cast<size_t>(id)];
    const uint64_t hash = HashBytes(text);
    Slot& slot = slots_[SlotOf(text, hash)];
    if (slot.id != kEmptySlot) return static_cast<int32_t>(slot.id);
    slot = {static_cast<uint32_t>(id), Tag(hash)};
    return std::nullopt;
  }

 private:
  struct Slot {
    uint32_t id = kEmptySlot;
    uint32_t tag =
        0;  // the part of the hash that does not choose the slot: spares most comparisons
  };

  static uint32_t Tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  // Where `text` is, or the empty slot where it would go.
  size_t SlotOf(std::string_view text, uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = hash & mask;
    while (slots_[slot].id != kEmptySlot &&
           (slots_[slot].tag != Tag(hash) || tokens_[slots_[slot].id] != text)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  const FlatStrings& tokens_;
  std::vector<Slot> slots_;
};

bool IsOrdinary(TokenType type) { return type == TokenType::kNormal || type == TokenType::kByte; }

// For error messages: no more of an untrusted text than a line holds.
std::string_view Excerpt(std::string_view text) { return text.substr(0, 64); }

// Enters merge `index` into the hash table; a pair that is there already keeps its place.
void InsertMerge(const std::vector<Merge>& merges, uint32_t index, std::vector<uint32_t>* slots) {
  const Merge& merge = merges[index];
  const size_t mask = slots->size() - 1;
  size_t slot = HashPair(merge.left, merge.right) & mask;
  for (; (*slots)[slot] != kEmptySlot; slot = (slot + 1) & mask) {
    const Merge& other = merges[(*slots)[slot]];
    if (other.left == merge.left && other.right == merge.right) return;
  }
  (*slots)[slot] = index;
}

}  // namespace

struct BytePairMerger::Owned {
  std::array<int32_t, 256> byte_tokens{};
  std::vector<Merge> merges;    // by importance
  std::vector<uint32_t> slots;  // open addressing over merges; a power of two, at most half full
};

Result<BytePairMerger> BytePairMerger::Create(const Vocabulary& vocabulary) {
  const FlatStrings& tokens = vocabulary.tokens;
  TokenIndex index(tokens);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!IsOrdinary(vocabulary.types[id])) continue;
    if (const auto twin = index.Insert(static_cast<int32_t>(id))) {
      return Err(ErrorCode::kCorrupt, "tokens {} and {} are both '{}'", *twin, id,
                 Excerpt(tokens[id]));
    }
  }

  auto owned = std::make_shared<Owned>();
  for (int byte = 0; byte < 256; ++byte) {
    const char bytes[] = {static_cast<char>(byte)};
    const std::string spelling = UnicodeFromBytes({bytes, 1});
    const auto id = index.Find(spelling);
    if (!id) {
      return Err(
          ErrorCode::kCorrupt,
          "the vocabulary has no token for byte 0x{:02X} ('{}'); byte-level BPE needs all 256",
          byte, spelling);
    }
    owned->byte_tokens[static_cast<size_t>(byte)] = *id;
  }

  const FlatStrings& lines = vocabulary.merges;
  if (lines.size() >= kEmptySlot / 2) {
    return Err(ErrorCode::kCorrupt, "{} merges are more than any vocabulary has", lines.size());
  }
  owned->merges.reserve(lines.size());
  owned->slots.assign(TableSize(lines.size()), kEmptySlot);
  std::string joined;
  size_t next_id = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos) {
      return Err(ErrorCode::kCorrupt, "merge {} ('{}') is not of the form 'left right'", i,
                 Excerpt(line));
    }
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    joined.assign(left).append(right);
    const auto left_id = index.Find(left), right_id = index.Find(right);
    // Training numbers the tokens in the order of the merges that make them, so the next one is
    // nearly always the next id.
    const auto id = next_id < tokens.size() && IsOrdinary(vocabulary.types[next_id]) &&
                            tokens[next_id] == joined
                        ? std::optional(static_cast<int32_t>(next_id))
                        : index.Find(joined);
    if (!left_id || !right_id || !id) {
      const std::string_view missing = !left_id ? left : !right_id ? right : joined;
      return Err(ErrorCode::kCorrupt, "merge {} ('{}') needs '{}', which is not an ordinary token",
                 i, Excerpt(line), Excerpt(missing));
    }
    owned->merges.push_back({*left_id, *right_id, *id});
    next_id = static_cast<size_t>(*id) + 1;
    // A pair that is listed twice keeps its first, more important place.
    InsertMerge(owned->merges, static_cast<uint32_t>(i), &owned->slots);
  }
  BytePairMerger merger;
  merger.byte_tokens_ = owned->byte_tokens;
  merger.merges_ = owned->merges;
  merger.slots_ = owned->slots;
  merger.owned_ = std::move(owned);
  return merger;
}

uint32_t BytePairMerger::FindMerge(int32_t left, int32_t right) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = HashPair(left, right) & mask;; slot = (slot + 1) & mask) {
    const uint32_t index = slots_[slot];
    if (index == kEmptySlot) return MergeWorkspace::kNone;
    if (merges_[index].left == left && merges_[index].right == right) return index;
  }
}

void BytePairMerger::Encode(std::string_view piece, MergeWorkspace* workspace,
                            std::vector<int32_t>* ids) const {
  while (piece.size() > kMaxChunkBytes) {
    EncodeChunk(piece.substr(0, kMaxChunkBytes), workspace, ids);
    piece.remove_prefix(kMaxChunkBytes);
  }
  EncodeChunk(piece, workspace, ids);
}

// A doubly linked list of symbols and a heap of the merges between neighbours. A merge makes some
// heap entries stale: an entry counts only while its symbol still has that merge with its
// neighbour.
void BytePairMerger::EncodeChunk(std::string_view piece, MergeWorkspace* workspace,
                                 std::vector<int32_t>* ids) const {
  constexpr uint32_t kNone = MergeWorkspace::kNone;
  auto& symbols = workspace->symbols_;
  auto& queue = workspace->queue_;
  const auto n = static_cast<uint32_t>(piece.size());
  symbols.resize(n);
  queue.clear();

  // Looks up the merge of symbol `i` with the one behind it.
  const auto update = [&](uint32_t i) {
    const uint32_t next = symbols[i].next;
    symbols[i].merge = next == kNone ? kNone : FindMerge(symbols[i].token, symbols[next].token);
    return symbols[i].merge != kNone;
  };
  const auto entry = [&](uint32_t i) { return static_cast<uint64_t>(symbols[i].merge) << 32 | i; };

  for (uint32_t i = 0; i < n; ++i) {
    symbols[i].token = byte_tokens_[static_cast<uint8_t>(piece[i])];
    symbols[i].previous = i == 0 ? kNone : i - 1;
    symbols[i].next = i + 1 == n ? kNone : i + 1;
  }
  for (uint32_t i = 0; i < n; ++i) {
    if (update(i)) queue.push_back(entry(i));
  }
  std::ranges::make_heap(queue, std::greater<>());
  workspace->n_queue_operations_ += queue.size();

  while (!queue.empty()) {
    const uint64_t top = queue.front();
    std::ranges::pop_heap(queue, std::greater<>());
    queue.pop_back();
    ++workspace->n_queue_operations_;
    const auto merge = static_cast<uint32_t>(top >> 32);
    const auto left = static_cast<uint32_t>(top);
    if (symbols[left].merge != merge) continue;

    const uint32_t right = symbols[left].next;
    symbols[left].token = merges_[merge].result;
    symbols[left].next = symbols[right].next;
    symbols[right].merge = kNone;  // gone: its entries are stale
    if (symbols[left].next != kNone) symbols[symbols[left].next].previous = left;
    for (const uint32_t i : {symbols[left].previous, left}) {
      if (i == kNone || !update(i)) continue;
      queue.push_back(entry(i));
      std::ranges::push_heap(queue, std::greater<>());
      ++workspace->n_queue_operations_;
    }
  }
  for (uint32_t i = 0; i != kNone && i < n; i = symbols[i].next) ids->push_back(symbols[i].token);
}

}  // namespace tandem::tokenizer
