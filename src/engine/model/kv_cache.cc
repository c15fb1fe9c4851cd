#include "engine/model/kv_cache.h"

#include <cstring>
#include <utility>

#include "base/check.h"

namespace tandem::model {
namespace {

int64_t PagesFor(int64_t n_tokens) { return (n_tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

Result<std::shared_ptr<KvPage>> KvPage::Create(const KvLayout& layout) {
  TANDEM_ASSIGN_OR_RETURN(os::AnonymousMemory memory,
                          os::AnonymousMemory::Create(layout.page_bytes()));
  return std::shared_ptr<KvPage>(new KvPage(layout, std::move(memory)));
}

uint64_t KvCacheBytes(const Hyperparameters& hyperparameters, KvType type, int64_t context_tokens) {
  return static_cast<uint64_t>(PagesFor(context_tokens)) *
         KvLayout::Of(hyperparameters, type).page_bytes();
}

Result<std::unique_ptr<KvCache>> KvCache::Create(const Hyperparameters& hyperparameters,
                                                 const Options& options) {
  if (options.context_tokens < 1 || options.context_tokens > hyperparameters.context_length) {
    return Err(ErrorCode::kInvalidArgument,
               "a context of {} tokens; this model takes 1 to {} tokens", options.context_tokens,
               hyperparameters.context_length);
  }
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->layout_ = KvLayout::Of(hyperparameters, options.type);
  cache->context_tokens_ = options.context_tokens;
  cache->uses_long_rope_ = hyperparameters.original_context_length > 0 &&
                           options.context_tokens > hyperparameters.original_context_length;
  return cache;
}

uint64_t KvCache::full_bytes() const {
  return static_cast<uint64_t>(PagesFor(context_tokens_)) * layout_.page_bytes();
}

Status KvCache::Truncate(int n_tokens) {
  if (n_tokens < 0 || n_tokens > length_) {
    return Err(ErrorCode::kInvalidArgument, "cannot keep {} tokens of a cache that holds {}",
               n_tokens, length_);
  }
  length_ = n_tokens;
  KeepPages(static_cast<size_t>(PagesFor(n_tokens)));
  return {};
}

KvCache::Pages KvCache::Share(int n_tokens) {
  TANDEM_CHECK(n_tokens >= 0 && n_tokens <= length_);
  Pages shared;
  for (size_t i = 0; i < static_cast<size_t>(PagesFor(n_tokens)); ++i) {
    pages_[i].own = nullptr;
    shared.push_back(pages_[i].page);
  }
  return shared;
}

Status KvCache::Adopt(std::span<const std::shared_ptr<const KvPage>> pages, int n_tokens) {
  if (length_ != 0 || n_tokens < 0 || n_tokens > context_tokens_ ||
      static_cast<int64_t>(pages.size()) < PagesFor(n_tokens)) {
    return Err(ErrorCode::kInvalidArgument,
               "{} tokens of {} pages do not fit a cache of {} tokens that holds {}", n_tokens,
               pages.size(), context_tokens_, length_);
  }
  for (const auto& page : pages) {
    if (page->layout() != layout_) {
      return Err(ErrorCode::kInvalidArgument, "pages of another model or precision");
    }
  }
  KeepPages(0);
  for (const auto& page : pages.first(static_cast<size_t>(PagesFor(n_tokens)))) {
    Push({page, nullptr});
  }
  length_ = n_tokens;
  return {};
}

bool KvCache::Fits(const Hyperparameters& hyperparameters) const {
  return layout_ == KvLayout::Of(hyperparameters, layout_.type);
}

Status KvCache::Reserve(int n_tokens) {
  // The page that the next token goes to may be shared, as far as it is filled.
  const auto next = static_cast<size_t>(length_ / kPageTokens);
  if (next < pages_.size() && pages_[next].own == nullptr) {
    std::shared_ptr<const KvPage> source = pages_[next].page;
    KeepPages(next);
    if (length_ % kPageTokens == 0) source = nullptr;
    auto copy = KvPage::Create(layout_);
    if (!copy) {
      if (source) Push({std::move(source), nullptr});
      return std::unexpected(std::move(copy).error());
    }
    if (source) std::memcpy((*copy)->data(), source->data(), layout_.page_bytes());
    KvPage* own = copy->get();
    Push({*std::move(copy), own});
  }
  while (static_cast<int64_t>(pages_.size()) < PagesFor(int64_t{length_} + n_tokens)) {
    TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<KvPage> page, KvPage::Create(layout_));
    KvPage* own = page.get();
    Push({std::move(page), own});
  }
  return {};
}

void KvCache::Push(Held held) {
  page_data_.push_back(held.page->data());
  pages_.push_back(std::move(held));
}

void KvCache::KeepPages(size_t n) {
  if (n >= pages_.size()) return;
  pages_.erase(pages_.begin() + static_cast<ptrdiff_t>(n), pages_.end());
  page_data_.resize(n);
}

}  // namespace tandem::model
