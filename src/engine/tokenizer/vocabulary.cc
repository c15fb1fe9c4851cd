#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

Result<VocabularyKind> VocabularyKindFromPre(std::string_view pre) {
  if (pre == "gpt-4o") return VocabularyKind::kO200k;
  if (pre == "qwen2") return VocabularyKind::kQwen2;
  return Err(ErrorCode::kUnsupported,
             "pre-tokeniser '{}' is not supported; supported are 'gpt-4o' and 'qwen2'",
             pre.substr(0, 64));
}

}  // namespace tandem::tokenizer
