#include "fleet/catalogue/model_ref.h"

#include <algorithm>
#include <array>

#include "fleet/catalogue/oci.h"

namespace tandem::fleet {
namespace {

// ASCII only: quantisation labels are.
std::string Upper(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return upper;
}

std::unexpected<Error> BadReference(std::string_view text, std::string_view why) {
  return std::unexpected(Error{ErrorCode::kInvalidArgument,
                               fmt::format("'{}' names no model: {}", text, why), "model"});
}

// The part behind the hub's host name; empty when `text` does not begin with one.
std::string_view BehindHubHost(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text.starts_with(scheme)) text.remove_prefix(scheme.size());
  }
  for (const std::string_view host : {"hf.co/", "huggingface.co/"}) {
    if (text.starts_with(host)) return text.substr(host.size());
  }
  return {};
}

Result<ModelRef> ParseHubRef(std::string_view text, std::string_view rest) {
  const size_t colon = rest.find(':');
  std::string_view repo = rest.substr(0, colon);
  if (repo.ends_with('/')) repo.remove_suffix(1);  // as copied from a browser
  if (!IsHubRepo(repo))
    return BadReference(text, "expected hf.co/USER/REPO or hf.co/USER/REPO:QUANT");
  ModelRef ref{.kind = ModelRef::Kind::kHub, .name = "hf.co/" + std::string(repo)};
  ref.hub.repo = repo;
  if (colon != rest.npos) {
    const std::string quant = Upper(rest.substr(colon + 1));
    if (!IsSafeFileName(quant))
      return BadReference(text, "what follows ':' is no quantisation such as Q4_K_M");
    ref.hub.quant = quant;
    ref.name = HubModelName(repo, quant);
  }
  return ref;
}

Result<ModelRef> ParseDepotRef(std::string_view text) {
  const size_t host = text.find("://") + 3;
  const size_t slash = text.find('/', host);
  const bool http = text.starts_with("http://") || text.starts_with("https://");
  std::string_view name = slash == text.npos ? std::string_view() : text.substr(slash + 1);
  name = name.substr(0, name.find('@'));
  const oci::Address address = oci::AddressOf(name);
  if (!http || !oci::IsRepository(address.repository) || !oci::IsTag(address.tag)) {
    return BadReference(text,
                        "of URLs https://huggingface.co/USER/REPO is understood, and that of "
                        "a package in a depot, http://HOST:PORT/NAME:TAG");
  }
  return ModelRef{
      .kind = ModelRef::Kind::kDepot, .name = oci::NameOf(address), .url = std::string(text)};
}

bool LooksLikeFile(std::string_view text) {
  return text.contains('/') || Upper(text).ends_with(".GGUF");
}

}  // namespace

Result<ModelRef> ParseModelRef(std::string_view text, const Catalogue& catalogue) {
  if (text.empty()) return BadReference(text, "it is empty");
  if (const CatalogueEntry* entry = catalogue.FindOnDevice(text)) {
    return ModelRef{.kind = ModelRef::Kind::kCatalogue, .name = entry->name, .entry = entry};
  }
  if (const std::string_view rest = BehindHubHost(text); !rest.empty()) {
    return ParseHubRef(text, rest);
  }
  if (text.contains('\0')) return BadReference("...", "it holds a NUL byte");
  if (text.contains("://")) return ParseDepotRef(text);
  if (LooksLikeFile(text)) {
    const std::filesystem::path file(text);
    if (!file.has_filename()) return BadReference(text, "it is a directory; name a .gguf file");
    return ModelRef{.kind = ModelRef::Kind::kFile, .name = file.stem().string(), .file = file};
  }
  const size_t colon = text.find(':');
  const bool tagged = colon != text.npos;
  if (!IsSafeFileName(text.substr(0, colon)) || (tagged && !oci::IsTag(text.substr(colon + 1)))) {
    return BadReference(text,
                        "a name is made of letters, digits, '.', '_' and '-', and may have a "
                        "tag such as ':int4'");
  }
  return ModelRef{.kind = ModelRef::Kind::kName, .name = std::string(text)};
}

std::string HubModelName(std::string_view repo, std::string_view quant) {
  return quant.empty() ? fmt::format("hf.co/{}", repo)
                       : fmt::format("hf.co/{}:{}", repo, Upper(quant));
}

}  // namespace tandem::fleet
