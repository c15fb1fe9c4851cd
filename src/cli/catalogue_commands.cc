// tandem catalogue.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/catalogue.h"
#include "cli/command.h"
#include "cli/time_text.h"
#include "os/file.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

constexpr size_t kMaxStatementBytes = size_t{64} << 10;

struct CatalogueFlags {
  std::string file;  // of a manifest, a key or a statement
  std::string model;
  std::string key;
  std::string old_key;
  std::string new_key;
  std::string name;
  std::string out;
  std::string after = "0";  // from now
  bool allow_unsigned = false;
  app::DraftOptions draft;
  std::vector<std::string> files;
  bool as_json = false;
  DataDirOption data_dir;
  RealClock clock;

  int64_t Now() const { return UnixSeconds(clock.SystemNow()); }
};
using Run = Status (*)(const CatalogueFlags&);

Status PrintJson(const json::value& value) { return Print(json::serialize(value) + "\n"); }

// A text file, or standard output for an empty name.
Status Write(const std::string& file, std::string_view text) {
  return file.empty() ? Print(text) : os::WriteFileAtomic(file, text);
}

std::string ShortId(std::string_view id) { return std::string(id.substr(0, 16)); }

std::string CertificateText(const fleet::CatalogueEntry& entry, const fleet::Variant& variant) {
  const std::string why = fleet::WhyNotDeployable(entry, variant);
  if (!variant.certificate) return "none";
  const auto kept = variant.certificate->kept_accuracy_ppm();
  return fmt::format("{}{}", kept ? fmt::format("kept {:.1f} %", *kept / 1e4) : "no exam",
                     why.empty() ? "" : ", not enough");
}

json::object VariantJson(const fleet::CatalogueEntry& entry, const fleet::Variant& variant) {
  json::object object = fleet::VariantJson(variant).get_object();
  object["manifest_digest"] = variant.manifest_digest;
  const std::string why = fleet::WhyNotDeployable(entry, variant);
  object["deployable"] = why.empty();
  object["deployment_note"] = why;
  object["memory"] = nullptr;
  if (entry.shape) {
    const auto needs = fleet::NeedsOf(entry, variant);
    if (needs) {
      object["memory"] = {
          {"context_tokens", needs->context_tokens}, {"package_bytes", needs->package_bytes},
          {"weights_bytes", needs->weights_bytes},   {"kv_cache_bytes", needs->kv_cache_bytes},
          {"scratch_bytes", needs->scratch_bytes},   {"reserve_bytes", needs->reserve_bytes},
          {"min_ram_gb", needs->min_ram_gb()}};
    }
  }
  return object;
}

std::string Origin(const fleet::CatalogueEntry& entry) {
  if (entry.cloud) return "cloud";
  if (!entry.bundled_file.empty()) return "bundled";
  return entry.sources.empty() ? "manifest" : "hub";
}

json::object ToJson(const fleet::CatalogueEntry& entry) {
  json::array aliases;
  for (const std::string& alias : entry.aliases) aliases.emplace_back(alias);
  json::array sources;
  for (const fleet::HubSource& source : entry.sources) {
    sources.push_back(json::object{{"hub", source.repo}, {"quantization", source.quant}});
  }
  json::array variants;
  for (const fleet::Variant& variant : entry.variants) {
    variants.push_back(VariantJson(entry, variant));
  }
  json::object object = {{"name", entry.name},
                         {"aliases", std::move(aliases)},
                         {"title", entry.title},
                         {"license", entry.license},
                         {"origin", Origin(entry)},
                         {"built_from", entry.built_from},
                         {"sources", std::move(sources)},
                         {"variants", std::move(variants)},
                         {"shape", nullptr}};
  if (entry.shape) object["shape"] = fleet::ShapeJson(*entry.shape);
  return object;
}

Status RunList(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const fleet::Catalogue catalogue, app::LoadCatalogue(data_dir));
  if (flags.as_json) {
    json::array models;
    for (const auto& entry : catalogue.entries()) models.push_back(ToJson(entry));
    return PrintJson(models);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& entry : catalogue.entries()) {
    if (entry.variants.empty()) {
      rows.push_back({entry.name, "-", "-", Origin(entry), "-", "-", "-"});
    }
    for (const fleet::Variant& variant : entry.variants) {
      std::string package = "-";
      std::string ram = "-";
      if (entry.shape) {
        const auto needs = fleet::NeedsOf(entry, variant);
        if (needs) {
          package = app::FormatByteSize(needs->package_bytes);
          ram = fmt::format("{} GB", needs->min_ram_gb());
        }
      }
      rows.push_back({entry.name, variant.name,
                      std::string(fleet::AcceleratorName(variant.accelerator)), Origin(entry),
                      package, ram, CertificateText(entry, variant)});
    }
  }
  return PrintTable({"MODEL", "VARIANT", "ON", "FROM", "PACKAGE", "FREE RAM", "CERTIFICATE"}, rows);
}

std::string Describe(const fleet::CatalogueEntry& entry, const fleet::Variant& variant) {
  std::string text = fmt::format("\n{}: {} on {}, scheme {}\n", variant.name, variant.quantization,
                                 fleet::AcceleratorName(variant.accelerator), variant.scheme);
  text += fmt::format("  platforms    {}\n", fmt::join(variant.platforms, ", "));
  if (entry.shape) {
    const auto needs = fleet::NeedsOf(entry, variant);
    if (needs) {
      text += fmt::format("  package      {}{}\n", app::FormatByteSize(needs->package_bytes),
                          variant.size_bytes ? "" : ", computed from the shape");
      text += fmt::format(
          "  memory       {} GB free at {} tokens: weights {}, KV cache {}, step {}, reserve {}\n",
          needs->min_ram_gb(), needs->context_tokens, app::FormatByteSize(needs->weights_bytes),
          app::FormatByteSize(needs->kv_cache_bytes), app::FormatByteSize(needs->scratch_bytes),
          app::FormatByteSize(needs->reserve_bytes));
    }
  }
  if (!variant.manifest_digest.empty()) {
    text += fmt::format("  manifest     {}\n", variant.manifest_digest);
  }
  if (const auto& certificate = variant.certificate) {
    text += fmt::format("  certificate  by {}, {}\n", certificate->issued_by,
                        FormatTime(certificate->issued_at_s));
    for (const auto& exam : certificate->exams) {
      text += fmt::format("    {}: {:.1f} % of {} questions, the reference {:.1f} %\n", exam.exam,
                          exam.score_ppm / 1e4, exam.n_questions, exam.reference_ppm / 1e4);
    }
    for (const auto& speed : certificate->speeds) {
      text +=
          fmt::format("    {} ({}): {:.1f} tokens/s at {} tokens\n", speed.device, speed.executor,
                      static_cast<double>(speed.decode_milli) / 1e3, speed.context_tokens);
    }
  }
  const std::string why = fleet::WhyNotDeployable(entry, variant);
  if (!why.empty()) text += fmt::format("  note         {}\n", why);
  return text;
}

Status RunShow(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const fleet::Catalogue catalogue, app::LoadCatalogue(data_dir));
  TANDEM_ASSIGN_OR_RETURN(const fleet::CatalogueEntry* entry,
                          fleet::FindModel(catalogue, flags.model));
  if (flags.as_json) return PrintJson(ToJson(*entry));
  std::string text = fmt::format("{}: {}\nlicense {}; {}\n", entry->name, entry->title,
                                 entry->license, Origin(*entry));
  if (!entry->aliases.empty()) text += fmt::format("also {}\n", fmt::join(entry->aliases, ", "));
  if (!entry->built_from.empty()) text += fmt::format("weights of hf.co/{}\n", entry->built_from);
  for (const fleet::HubSource& source : entry->sources) {
    text += fmt::format("source hf.co/{} {}\n", source.repo, source.quant);
  }
  if (entry->shape) {
    text += fmt::format("{:.2f} B parameters, {} layers, context {} tokens\n",
                        static_cast<double>(entry->shape->n_parameters()) / 1e9,
                        entry->shape->n_layers, entry->shape->context_length);
  }
  if (entry->min_kept_accuracy_ppm > 0) {
    text += fmt::format("a certificate must show {:.1f} % of the reference's right answers\n",
                        entry->min_kept_accuracy_ppm / 1e4);
  }
  for (const fleet::Variant& variant : entry->variants) text += Describe(*entry, variant);
  return Print(text);
}

Status RunAdd(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(
      const auto added, app::AddManifest(data_dir, flags.file, flags.allow_unsigned, flags.clock));
  const fleet::PackageManifest& manifest = added.manifest.manifest();
  if (flags.as_json) {
    json::object object = {{"model", manifest.model},
                           {"variant", manifest.variant.name},
                           {"manifest_digest", added.manifest.digest()},
                           {"replaced", added.replaced},
                           {"signed_by", nullptr}};
    if (added.vouched_by) {
      object["signed_by"] = {{"id", added.vouched_by->id}, {"name", added.vouched_by->name}};
    }
    return PrintJson(object);
  }
  return Print(fmt::format(
      "{} {} of {}, {}, {}\n", added.replaced ? "replaced" : "added", manifest.variant.name,
      manifest.model, app::FormatByteSize(manifest.size_bytes()),
      added.vouched_by ? fmt::format("signed by {} ('{}')", ShortId(added.vouched_by->id),
                                     added.vouched_by->name)
                       : "not signed by a trusted key"));
}

Status RunDraft(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  app::DraftOptions options = flags.draft;
  options.files.assign(flags.files.begin(), flags.files.end());
  TANDEM_ASSIGN_OR_RETURN(const auto manifest, app::DraftManifest(data_dir, options, flags.clock));
  return Write(flags.out, manifest.Format());
}

Status RunSign(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(
      const auto manifest,
      app::SignManifestFile(flags.file, flags.key, flags.out.empty() ? flags.file : flags.out));
  const std::string id = manifest.signatures().back().key_id;
  if (flags.as_json) {
    return PrintJson({{"manifest_digest", manifest.digest()},
                      {"signatures", manifest.signatures().size()},
                      {"key_id", id}});
  }
  return Print(fmt::format("manifest {}, signed by {}\n", manifest.digest(), ShortId(id)));
}

Status RunKeygen(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto key, app::MakeSigningKey(flags.file));
  if (flags.as_json) return PrintJson({{"id", key.Id()}, {"public_key", key.ToPem()}});
  return Print(key.ToPem());
}

Status RunPublicKey(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto key, app::ReadPublicKey(flags.file));
  if (flags.as_json) return PrintJson({{"id", key.Id()}, {"public_key", key.ToPem()}});
  return Print(key.ToPem());
}

// ---- trust

json::object ToJson(const fleet::TrustedKey& key, int64_t now_s) {
  json::object object = {{"id", key.id},
                         {"name", key.name},
                         {"added_at", key.added_at_s},
                         {"not_after", nullptr},
                         {"trusted", key.InForce(now_s)}};
  if (key.not_after_s) object["not_after"] = *key.not_after_s;
  return object;
}

Status PrintKey(const CatalogueFlags& flags, const fleet::TrustedKey& key) {
  if (flags.as_json) return PrintJson(ToJson(key, flags.Now()));
  return Print(
      fmt::format("{} '{}': trusted{}\n", key.id, key.name,
                  key.not_after_s ? fmt::format(" until {}", FormatTime(*key.not_after_s)) : ""));
}

Status RunTrustList(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto trust, app::ReadTrust(data_dir));
  const int64_t now_s = flags.Now();
  if (flags.as_json) {
    json::array keys;
    for (const auto& key : trust.keys()) keys.push_back(ToJson(key, now_s));
    return PrintJson(keys);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& key : trust.keys()) {
    rows.push_back({ShortId(key.id), key.name, FormatTime(key.added_at_s),
                    key.not_after_s ? FormatTime(*key.not_after_s) : "-",
                    key.InForce(now_s) ? "trusted" : "ended"});
  }
  return PrintTable({"KEY", "NAME", "ADDED", "UNTIL", "STATE"}, rows);
}

Status RunTrustAdd(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto key, app::ReadPublicKey(flags.file));
  TANDEM_ASSIGN_OR_RETURN(
      const auto added,
      app::ChangeTrust(data_dir, [&](fleet::TrustStore& trust) -> Result<fleet::TrustedKey> {
        TANDEM_RETURN_IF_ERROR(trust.Add(key, flags.name, flags.Now()));
        return *trust.Find(key.Id());
      }));
  return PrintKey(flags, added);
}

Status RunTrustRetire(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto after, ParseSpan(flags.after));
  TANDEM_ASSIGN_OR_RETURN(const auto retired,
                          app::ChangeTrust(data_dir, [&](fleet::TrustStore& trust) {
                            return trust.Retire(flags.key, flags.Now() + after.count());
                          }));
  return PrintKey(flags, retired);
}

Status RunTrustRotate(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto after, ParseSpan(flags.after));
  TANDEM_ASSIGN_OR_RETURN(
      const std::string statement,
      app::RotateSigningKey(flags.old_key, flags.new_key, flags.name, flags.Now() + after.count()));
  return Write(flags.out, statement);
}

Status RunTrustAccept(const CatalogueFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const std::string statement,
                          os::ReadFile(flags.file, kMaxStatementBytes));
  TANDEM_ASSIGN_OR_RETURN(const auto accepted,
                          app::ChangeTrust(data_dir, [&](fleet::TrustStore& trust) {
                            return trust.AcceptRotation(statement, flags.Now());
                          }));
  return PrintKey(flags, accepted);
}

struct Command {
  CLI::App* app;
  std::shared_ptr<CatalogueFlags> flags;
};

Command AddCommand(CLI::App* parent, Action* action, const std::string& name,
                   const std::string& help, Run run) {
  auto flags = std::make_shared<CatalogueFlags>();
  CLI::App* command = parent->add_subcommand(name, help);
  flags->data_dir.Add(command);
  command->callback([flags, action, run] { *action = [flags, run] { return run(*flags); }; });
  return {command, flags};
}

void AddJson(const Command& command) {
  command.app->add_flag("--json", command.flags->as_json, "Print JSON");
}

void AddTrustCommands(CLI::App* catalogue, Action* action) {
  CLI::App* trust = catalogue->add_subcommand("trust", "The keys whose signatures are believed");
  trust->require_subcommand(1);
  AddJson(AddCommand(trust, action, "list", "The keys, and until when", RunTrustList));

  const Command add = AddCommand(trust, action, "add", "Believe a key", RunTrustAdd);
  add.app->add_option("file", add.flags->file, "A public key (PEM)")->required();
  add.app->add_option("--name", add.flags->name, "For people: \"release 2026\"")->required();
  AddJson(add);

  const Command retire =
      AddCommand(trust, action, "retire", "Believe a key no longer", RunTrustRetire);
  retire.app->add_option("key", retire.flags->key, "Its id, or eight digits of it")->required();
  retire.app->add_option("--after", retire.flags->after, "From when on: 0 (now), 30d, ...")
      ->capture_default_str();
  AddJson(retire);

  const Command rotate =
      AddCommand(trust, action, "rotate", "Write a statement by which a key hands over to the next",
                 RunTrustRotate);
  rotate.app->add_option("--old-key", rotate.flags->old_key, "The private key that is trusted")
      ->required();
  rotate.app->add_option("--new-key", rotate.flags->new_key, "The private key that follows")
      ->required();
  rotate.app->add_option("--name", rotate.flags->name, "The new key's name")->required();
  rotate.app
      ->add_option("--overlap", rotate.flags->after, "How long the old key is believed beside it")
      ->required();
  rotate.app->add_option("-o,--out", rotate.flags->out,
                         "The statement's file (default: standard output)");

  const Command accept =
      AddCommand(trust, action, "accept", "Take such a statement in", RunTrustAccept);
  accept.app->add_option("file", accept.flags->file, "The statement")->required();
  AddJson(accept);
}

}  // namespace

void AddCatalogueCommand(CLI::App* app, Action* action) {
  CLI::App* catalogue =
      app->add_subcommand("catalogue", "The models that are known, and who may add to them");
  catalogue->require_subcommand(1);
  AddJson(AddCommand(catalogue, action, "list", "Models and their variants", RunList));

  const Command show = AddCommand(catalogue, action, "show", "All about one model", RunShow);
  show.app->add_option("model", show.flags->model, "A name or alias")->required();
  AddJson(show);

  const Command add =
      AddCommand(catalogue, action, "add", "Take in a manifest that a trusted key signed", RunAdd);
  add.app->add_option("file", add.flags->file, "The manifest")->required();
  add.app->add_flag("--allow-unsigned", add.flags->allow_unsigned,
                    "Also where no trusted key signed it");
  AddJson(add);

  const Command draft = AddCommand(catalogue, action, "draft",
                                   "Write the manifest of a package's files, unsigned", RunDraft);
  app::DraftOptions& options = draft.flags->draft;
  draft.app->add_option("files", draft.flags->files, "The package; the file to open comes first")
      ->required();
  draft.app->add_option("--model", options.model, "The model's name")->required();
  draft.app->add_option("--variant", options.variant, "The variant's name")->required();
  draft.app->add_option("--quantization", options.quantization, "As clients ask for it: int4");
  draft.app->add_option("--scheme", options.scheme,
                        "As 'tandem pack' wrote it: int4, int8g128, ...");
  draft.app->add_option("--accelerator", options.accelerator, "cpu, gpu or npu");
  draft.app->add_option("--platforms", options.platforms, "android_arm64,linux_x86_64")
      ->delimiter(',');
  draft.app->add_option("--certificate", options.certificate, "A certificate (JSON)");
  draft.app->add_option("--built-from", options.built_from, "Public sources");
  draft.app->add_option("-o,--out", draft.flags->out,
                        "The manifest's file (default: standard output)");

  const Command sign = AddCommand(catalogue, action, "sign", "Sign a manifest", RunSign);
  sign.app->add_option("file", sign.flags->file, "The manifest")->required();
  sign.app->add_option("--key", sign.flags->key, "A private key (PEM) of 'keygen'")->required();
  sign.app->add_option("-o,--out", sign.flags->out, "Another file (default: the same)");
  AddJson(sign);

  const Command keygen = AddCommand(catalogue, action, "keygen",
                                    "Make a signing key; prints its public half", RunKeygen);
  keygen.app->add_option("file", keygen.flags->file, "Receives the private key")->required();
  AddJson(keygen);

  const Command key =
      AddCommand(catalogue, action, "key", "Print the public half of a key", RunPublicKey);
  key.app->add_option("file", key.flags->file, "A key (PEM)")->required();
  AddJson(key);

  AddTrustCommands(catalogue, action);
}

}  // namespace tandem::cli
