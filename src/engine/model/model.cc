#include "engine/model/model.h"

#include <utility>

#include "base/log.h"
#include "engine/model/binder.h"
#include "engine/model/weights.h"

namespace tandem::model {

Model::Model() = default;
Model::~Model() = default;

Result<std::shared_ptr<const Model>> Model::Load(std::shared_ptr<const gguf::File> file,
                                                 const Options& options) {
  std::shared_ptr<Model> model(new Model());
  TANDEM_ASSIGN_OR_RETURN(model->hyperparameters_, ReadHyperparameters(*file));
  if (!options.mtp) model->hyperparameters_.n_mtp_layers = 0;
  TANDEM_ASSIGN_OR_RETURN(BoundWeights bound, BindFile(*file, model->hyperparameters_));
  TANDEM_RETURN_IF_ERROR(model->Take(std::move(bound), options));
  model->file_ = std::move(file);
  return model;
}

Result<std::shared_ptr<const Model>> Model::Load(std::shared_ptr<const package::File> file,
                                                 const Options& options) {
  std::shared_ptr<Model> model(new Model());
  auto hyperparameters = ReadHyperparameters(*file->model());
  if (!hyperparameters) return Wrap(std::move(hyperparameters).error(), file->name());
  model->hyperparameters_ = *std::move(hyperparameters);
  if (!options.mtp) model->hyperparameters_.n_mtp_layers = 0;
  auto bound = BindPackage(*file, model->hyperparameters_);
  if (!bound) return Wrap(std::move(bound).error(), file->name());
  TANDEM_RETURN_IF_ERROR(model->Take(*std::move(bound), options));
  model->package_ = std::move(file);
  return model;
}

Status Model::Take(BoundWeights bound, const Options& options) {
  kernels_ = options.kernels;
  if (kernels_ == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(kernels_, kernels::Active());
  }
  weights_bytes_ = bound.n_bytes;
  tied_head_ = bound.tied_head;
  bytes_per_token_ = weights_bytes_ - (tied_head_ ? 0 : bound.weights->embedding.bytes()) -
                     bound.weights->head.fine_bytes();
  if (bound.weights->mtp) {
    const LayerWeights& layer = bound.weights->mtp->layer;
    const Linear* read_by_drafts[] = {&layer.qkv, &layer.attention_output, &layer.gate_up,
                                      &layer.down, &bound.weights->mtp->input};
    for (const Linear* linear : read_by_drafts) {
      bytes_per_token_ -= linear->bytes();
    }
  }
  weights_ = std::move(bound.weights);
  log::Debug("model: {} with {} layers, d_model {}, {} bytes of weights, {}",
             ArchitectureName(hyperparameters_.architecture), hyperparameters_.n_layers,
             hyperparameters_.d_model, weights_bytes_, packed() ? "packed" : "in blocks");
  return {};
}

uint64_t Model::head_products() const { return weights_->head.products(); }

uint64_t Model::products_per_token() const {
  uint64_t sum = head_products();
  for (const LayerWeights& layer : weights_->layers) {
    sum += layer.qkv.products() + layer.attention_output.products() + layer.gate_up.products() +
           layer.down.products();
  }
  return sum;
}

bool Model::packed() const { return weights_->head.packed(); }

}  // namespace tandem::model
