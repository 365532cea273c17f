"""The Search page: which head does this?"""
