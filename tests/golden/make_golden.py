"""Makes all goldens: see README.md."""

import make_models
import make_tokenizers

make_models.main()
make_tokenizers.main()
