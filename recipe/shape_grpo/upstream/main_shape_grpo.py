# Copyright 2026 the shape-grpo contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Train with ShapE-GRPO: verl's own entry point with the configuration of this folder.

The package shape-grpo is a plugin of verl. It checks the configuration before Ray starts.
"""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="config", config_name="shape_grpo_trainer", version_base=None)
def main(config: DictConfig) -> None:
    """Run verl's trainer."""
    from verl.trainer import main_ppo

    main_ppo.main(config)


if __name__ == "__main__":
    main()
