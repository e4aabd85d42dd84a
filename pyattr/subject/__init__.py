"""What is trained, and the words and digests for it.

Job files (`pyattr.jobs`) and sessions (`pyattr.transport`) say it in their own ways; both make a `Training`
of it, and whatever trains models, not only on images, is described to another party by a `Job`.
"""
