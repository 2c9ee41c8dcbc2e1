#include "common/text/budget.hpp"

#include "common/files/error.hpp"

namespace kv {

void Budget::refuse(const std::string& where) {
  throw Error(where + " takes too many steps, or makes too long a text: use another text or another tokenizer");
}

}  // namespace kv
