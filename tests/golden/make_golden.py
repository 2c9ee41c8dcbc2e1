"""Makes all goldens: see README.md."""

import make_generation
import make_models
import make_templates
import make_tokenizers

make_models.main()
make_tokenizers.main()
make_templates.main()
make_generation.main()
