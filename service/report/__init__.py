"""`gramian report`: what a job did and made, as one HTML file that needs nothing else."""
