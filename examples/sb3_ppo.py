"""PPO of Stable-Baselines3 on a Meta-World task from pixels, with the video reward added.

.venv/bin/python examples/sb3_ppo.py --task drawer_close --steps 100000
"""

import argparse

import gymnasium
import metaworld  # noqa: F401 (registers its environments)
from gymnasium.wrappers import AddRenderObservation
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor

from genreward_jax.envs.gym_view import MetaWorldView
from genreward_jax.gym import GenRewardWrapper

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="drawer_close")
parser.add_argument("--goal", default="", help="a video file; '' is the task's own goal")
parser.add_argument("--steps", type=int, default=100_000)
parser.add_argument("--length", type=int, default=256)
parser.add_argument("--alpha", type=float, default=0.01)
parser.add_argument("--interval", type=int, default=128)
args = parser.parse_args()

name = args.task.replace("_", "-") + "-v3"
env = gymnasium.make("Meta-World/MT1", env_name=name, seed=0, max_episode_steps=args.length, disable_env_checker=True)
env = AddRenderObservation(MetaWorldView(env, size=(64, 64)))  # the agent sees what the reward sees
env = GenRewardWrapper(
    env, args.goal or args.task, prompt="the task is done" if args.goal else "", alpha=args.alpha,
    interval=args.interval, baseline="still",
)  # fmt: skip
env = Monitor(env, info_keywords=("success", "reward_video"))
agent = PPO("CnnPolicy", env, n_steps=min(args.length, args.steps), batch_size=64, n_epochs=4, seed=0, verbose=1)
agent.learn(args.steps)
env.close()
