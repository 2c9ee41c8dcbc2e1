/// @file
/// peer_logits MODEL.gguf OUTPUT TOKEN...: logits of the last token as raw f32, by llama.cpp, or by ik_llama.cpp when compiled
/// with -DIK. All but the last two tokens are fed as a prompt, then one by one. To check that a GGUF file is the same
/// model as the checkpoint it was made from. Built against the peer's own llama.h and library.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

namespace {

/// Feeds tokens at positions first, first + 1, ...; the last one gets logits.
void feed(llama_context* context, const std::vector<llama_token>& tokens, int first) {
  const int count = static_cast<int>(tokens.size());
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int i = 0; i < count; ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = first + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = i == count - 1;
  }
  if (llama_decode(context, batch) != 0) std::exit(1);
  llama_batch_free(batch);
}

}  // namespace

int main(int count, char** values) {
  if (count < 6) {
    std::fprintf(stderr, "usage: peer_logits MODEL.gguf OUTPUT TOKEN TOKEN TOKEN...\n");
    return 2;
  }
  std::vector<llama_token> tokens;
  for (int i = 3; i < count; ++i) tokens.push_back(std::atoi(values[i]));
  llama_backend_init();
  llama_model_params model_params = llama_model_default_params();
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 512;
  params.n_threads = params.n_threads_batch = 1;
#ifdef IK
  model_params.mla = params.mla_attn = 3;
  model_params.flash_attn = params.flash_attn = true;
  params.fused_moe_up_gate = true;
#endif
  llama_model* const model = llama_model_load_from_file(values[1], model_params);
  llama_context* const context = model ? llama_init_from_model(model, params) : nullptr;
  if (!context) return 1;
  const int prompt = static_cast<int>(tokens.size()) - 2;
  feed(context, {tokens.begin(), tokens.end() - 2}, 0);
  feed(context, {tokens[prompt]}, prompt);
  feed(context, {tokens[prompt + 1]}, prompt + 1);
#ifdef IK
  const int vocabulary = llama_n_vocab(model);
#else
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
#endif
  std::FILE* const file = std::fopen(values[2], "wb");
  if (!file) return 1;
  std::fwrite(llama_get_logits_ith(context, 0), sizeof(float), static_cast<std::size_t>(vocabulary), file);
  return std::fclose(file) == 0 ? 0 : 1;
}
